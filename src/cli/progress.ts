/** Progress of a snapshot: a bar that is redrawn on a terminal, a line every few seconds elsewhere. */
import type { Clock } from "../core/clock.ts";
import type { SnapshotTable } from "../core/snapshot.ts";
import type { Terminal } from "./terminal.ts";

const BAR = 24;
const REDRAW_MS = 200;
const LINE_MS = 5_000;
/** The speed is that of the last so many milliseconds. */
const WINDOW_MS = 10_000;

type Counts = Pick<SnapshotTable, "state" | "table" | "rows_done" | "rows_estimated">;

/** Rows that are done and rows there will be, as far as known: an estimate is never below what is done. */
export function totals(tables: readonly Counts[]): { readonly done: number; readonly all: number } {
  let done = 0;
  let all = 0;
  for (const { state, rows_done, rows_estimated } of tables) {
    done += rows_done;
    all += state === "done" ? rows_done : Math.max(rows_done, rows_estimated);
  }
  return { done, all };
}

/** `orders  [######------]  50 %  500,000 of 1,000,000 rows  82,000 rows/s  6 s left` */
export function drawProgress(tables: readonly Counts[], rowsPerSecond: number): string {
  const { done, all } = totals(tables);
  const left = tables.filter(({ state }) => state !== "done");
  const part = left.length === 0 ? 1 : all === 0 ? 0 : Math.min(done / all, 0.999);
  const filled = Math.round(part * BAR);
  const bar = `[${"#".repeat(filled)}${"-".repeat(BAR - filled)}]`;
  const current = left.find(({ state }) => state === "running") ?? left[0];
  const speed = rowsPerSecond > 0 ? `${grouped(Math.round(rowsPerSecond))} rows/s` : "waiting";
  const time = left.length === 0 || rowsPerSecond <= 0 ? [] : [`${duration((all - done) / rowsPerSecond)} left`];
  const facts = [`${Math.floor(part * 100)} %`, `${grouped(done)} of ${grouped(all)} rows`, speed, ...time];
  return [current?.table ?? "all tables", bar, ...facts].join("  ");
}

/** 90 → `1 min 30 s` */
export function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3_600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3_600)} h ${Math.floor((whole % 3_600) / 60)} min`;
}

export function grouped(number: number): string {
  return number.toLocaleString("en-US");
}

export class ProgressLine {
  readonly #terminal: Pick<Terminal, "say" | "write" | "sayIsTerminal">;
  readonly #clock: Clock;
  #samples: { readonly at: number; readonly done: number }[] = [];
  #drawnAt = Number.NEGATIVE_INFINITY;
  #open = false;

  constructor(terminal: Pick<Terminal, "say" | "write" | "sayIsTerminal">, clock: Clock) {
    this.#terminal = terminal;
    this.#clock = clock;
  }

  show(tables: readonly Counts[]): void {
    const at = this.#clock.monotonic();
    const { done } = totals(tables);
    const last = this.#samples.at(-1);
    // A table that began anew: what it did before says nothing about the speed.
    if (last && done < last.done) this.#samples = [];
    this.#samples.push({ at, done });
    while (this.#samples.length > 2 && at - (this.#samples[0]?.at ?? at) > WINDOW_MS) this.#samples.shift();
    const redraw = this.#terminal.sayIsTerminal;
    if (at - this.#drawnAt < (redraw ? REDRAW_MS : LINE_MS)) return;
    this.#drawnAt = at;
    const text = drawProgress(tables, this.#speed(at, done));
    if (redraw) {
      this.#terminal.write(`\r\u001b[K${text}`);
      this.#open = true;
    } else if (this.#samples.length > 1) this.#terminal.say(text);
  }

  /** A line of its own, not into the bar. */
  say(text: string): void {
    this.close();
    this.#terminal.say(text);
  }

  /** Leaves the bar where it is. */
  close(): void {
    if (this.#open) this.#terminal.write("\n");
    this.#open = false;
  }

  #speed(at: number, done: number): number {
    const first = this.#samples[0];
    return first && at > first.at ? ((done - first.done) * 1_000) / (at - first.at) : 0;
  }
}
