/** What happened in histories, counted under names: the figures that a long run leaves behind. */
import type { Observer } from "./checks/check.ts";

export class Tally {
  readonly #counts = new Map<string, number>();

  /** @param counts what another tally's `counts` told */
  static of(counts: unknown): Tally {
    const tally = new Tally();
    for (const [name, count] of Object.entries(counts ?? {})) tally.add(name, Number(count));
    return tally;
  }

  add(name: string, count = 1): void {
    this.#counts.set(name, this.of(name) + count);
  }

  /** How often it was counted; 0 of what never happened. */
  of(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  take(other: Tally): void {
    for (const [name, count] of other.#counts) this.add(name, count);
  }

  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts);
  }

  /** One line for a page or a log. */
  get report(): string {
    const all = (names: readonly string[]) => names.map((name) => `${number(this.of(name))} ${name}`).join(", ");
    const mix = ["2 contours", "3 contours", "4 contours"].map((name) => `${number(this.of(name))} of ${name}`);
    return [
      `${number(this.of("histories"))} histories (${mix.join(", ")}; ${number(this.of("short"))} of them short), ${number(this.of("failed"))} failed`,
      all(["events", "virtual seconds", "commits"]),
      `changes: ${all(["INSERT", "UPDATE", "DELETE", "TRUNCATE", "SNAPSHOT"])}`,
      `outcomes at other contours: ${all(["applied", "beaten", "overridden", "parked"])}`,
      all(["captured by apply (law 3, second looks)"]),
      all(["crashes", "stops", "freezes", "outages", "clock steps"]),
      all(["messages delivered", "of them again"]),
      all(["looks of checks"]),
    ].join("; ");
  }
}

/** Counts what is told of a history. @param checks how often they look at something is counted as well */
export function counting(tally: Tally, checks: readonly Observer[]): Observer {
  const look = (at: keyof Observer) =>
    tally.add("looks of checks", checks.filter((check) => check[at] !== undefined).length);
  return {
    committed() {
      tally.add("commits");
      look("committed");
    },
    cutTaken: () => look("cutTaken"),
    stored: () => look("stored"),
    delivered(again) {
      tally.add("messages delivered");
      if (again) tally.add("of them again");
    },
    acknowledged: () => look("acknowledged"),
    applied({ outcomes }) {
      for (const [, outcome] of outcomes) tally.add(outcome);
      look("applied");
    },
    settled(_contour, _change, outcome) {
      tally.add(outcome);
      look("settled");
    },
    ended: () => look("ended"),
  };
}

function number(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}
