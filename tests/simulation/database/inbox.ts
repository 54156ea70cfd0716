/** Parked changes, tried again with growing pauses; as inbox.ts and retry.ts of adapters/postgres/target. */
import { DEFAULT_CHANNEL } from "../../../src/core/channel.ts";
import { type ApplyContext, applyGroup } from "./apply.ts";
import type { Incoming, Outcome } from "./incoming.ts";
import type { Work } from "./task.ts";
import { Cell } from "./transaction.ts";

interface Parked {
  readonly change: Incoming;
  readonly attempts: number;
  /** By the database's clock, in ms. */
  readonly nextAt: number;
}

const FIRST_PAUSE_MS = 700;
const LONGEST_PAUSE_MS = 6_000;

export class Inbox {
  readonly #entries = new Map<string, Cell<Parked>>();

  /** How many are parked. */
  get size(): number {
    return [...this.#entries.values()].filter(({ committed }) => committed !== null).length;
  }

  /** For a message: what is parked. */
  get names(): readonly string[] {
    const parked = [...this.#entries.values()].flatMap(({ committed }) => (committed ? [committed.change] : []));
    return parked.map(({ event, operation, table, key }) => `${event} ${operation} ${table.name} ${key}`);
  }

  *park({ db, tx }: ApplyContext, change: Incoming): Work<void> {
    yield* this.#write({ db, tx }, change.event, { change, attempts: 0, nextAt: db.clockMs() + FIRST_PAUSE_MS });
  }

  /** Tries those that are due, each by itself. `settled` is told of each that is gone. */
  *retry(
    context: ApplyContext,
    limit: number,
    settled: (change: Incoming, outcome: Outcome) => void,
  ): Work<{ readonly tried: number; readonly resolved: number }> {
    const { db } = context;
    const due = [...this.#entries.values()].flatMap(({ committed }) =>
      committed && committed.nextAt <= db.clockMs() ? [committed] : [],
    );
    let tried = 0;
    let resolved = 0;
    for (const { change } of due.slice(0, limit)) {
      // Not beside the channel it came by: a deletion that is being applied there would not be seen.
      yield* db.lock(context.tx, `apply ${change.source}/${change.table.topic ?? DEFAULT_CHANNEL}`, "all");
      // Another process may have taken it meanwhile.
      yield* db.lock(context.tx, `inbox ${change.event}`, "all");
      const parked = this.#cell(change.event).read(context.tx);
      if (!parked) continue;
      tried++;
      const outcomes = yield* applyGroup(context, [change]);
      const outcome = outcomes.get(change) ?? "parked";
      if (outcome === "parked") {
        const attempts = parked.attempts + 1;
        const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempts);
        yield* this.#write(context, change.event, { change, attempts, nextAt: db.clockMs() + pause });
      } else {
        yield* this.#write(context, change.event, null);
        resolved++;
        settled(change, outcome);
      }
    }
    return { tried, resolved };
  }

  *#write({ db, tx }: Pick<ApplyContext, "db" | "tx">, event: string, parked: Parked | null): Work<void> {
    yield* db.lock(tx, `inbox ${event}`, "all");
    this.#cell(event).write(tx, parked);
  }

  #cell(event: string): Cell<Parked> {
    let cell = this.#entries.get(event);
    if (!cell) {
      cell = new Cell<Parked>();
      this.#entries.set(event, cell);
    }
    return cell;
  }
}
