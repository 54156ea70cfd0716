/**
 * Runs a snapshot to its end: one chunk after the other, parents before children, slower when the broker does not keep up.
 * Everything it knows stands in the database, so it can be killed at any point and run again (I8).
 */
import { Backoff } from "../core/backoff.ts";
import type { Clock } from "../core/clock.ts";
import { ReplicatorError } from "../core/errors.ts";
import type { SnapshotSource, SnapshotTable } from "../core/snapshot.ts";
import { CHUNK_BYTES, isAbove, type Limits, Pace } from "./pace.ts";

export interface SnapshotOptions {
  readonly source: SnapshotSource;
  /** Unique to this process, and what a person reads who wants to know who runs it. */
  readonly owner: string;
  /** As SQL writes them; empty: every replicated table. */
  readonly tables: readonly string[];
  readonly restart: boolean;
  readonly exact: boolean;
  /** Return only when the broker has confirmed everything. */
  readonly wait: boolean;
  /** Rows a second; null: as fast as the broker confirms. */
  readonly rate: number | null;
  /** What may wait for the broker's confirmation before the next chunk waits too. */
  readonly limits: Limits;
  readonly clock: Clock;
  /** Its abort ends the snapshot after the chunk under way. */
  readonly signal: AbortSignal;
  /** After each chunk, and about once a second while nothing moves. */
  onProgress(tables: readonly SnapshotTable[]): void;
  /** Something a person should know; once when it begins. */
  say(text: string): void;
}

export interface SnapshotResult {
  readonly tables: readonly SnapshotTable[];
  /** Everything is in the queue (and confirmed, where that was asked for). */
  readonly complete: boolean;
  /** Rows this run has put into the queue. */
  readonly rows: number;
}

const LEASE_MS = 6_000;
const LOOK_MS = 100;
const RENEW_MS = 1_000;
/** What does not move for so long is worth a word. */
const STALLED_MS = 10_000;
/** A database that is away is waited for so long. */
const PATIENCE_MS = 60_000;

/** @throws ReplicatorError `snapshot.busy`, `snapshot.table_changed`, what the database says when it stays away */
export async function runSnapshot(options: SnapshotOptions): Promise<SnapshotResult> {
  const { source, owner } = options;
  if (!(await takeHold(options))) return { tables: [], complete: false, rows: 0 };
  try {
    return await new Run(options).toEnd();
  } finally {
    // Where the database is away the right runs out by itself.
    await source.letGo(owner).catch((error: unknown) => {
      if (!(error instanceof ReplicatorError)) throw error;
    });
  }
}

/** Somebody who was killed leaves the right until it runs out; whoever renews it meanwhile lives. */
async function takeHold({ source, owner, clock, signal, say }: SnapshotOptions): Promise<boolean> {
  let first: string | null = null;
  while (!signal.aborted) {
    if (await source.hold(owner, LEASE_MS)) return true;
    const holder = await source.holder();
    if (first === null && holder) say(`The snapshot was run by ${holder.owner}: looking whether it still is`);
    first ??= holder?.until ?? null;
    if (holder && !holder.expired && holder.until !== first) throw busy(holder.owner);
    await clock.sleep(LOOK_MS, signal);
  }
  return false;
}

class Run {
  readonly #options: SnapshotOptions;
  readonly #pace: Pace;
  #tables: SnapshotTable[] = [];
  #rows = 0;
  #heldAt = 0;

  constructor(options: SnapshotOptions) {
    this.#options = options;
    this.#pace = new Pace(options);
  }

  async toEnd(): Promise<SnapshotResult> {
    const { source, tables, owner, restart, exact, say, onProgress, wait, signal } = this.#options;
    this.#tables = [...(await source.begin({ tables, owner, restart, exact }))];
    this.#announce();
    onProgress(this.#tables);
    for (const { table, circle } of this.#tables) {
      if (circle)
        say(
          `${table} refers to other tables in a circle: rows that come before those they refer to are parked at the other contours until these arrive`,
        );
    }
    for (const [place, { state }] of this.#tables.entries()) if (state !== "done") await this.#table(place);
    const complete = this.#tables.every(({ state }) => state === "done") && (!wait || (await this.#confirmed()));
    if (!signal.aborted || complete) await this.#refresh();
    return { tables: this.#tables, complete, rows: this.#rows };
  }

  #announce(): void {
    const { say } = this.#options;
    const done = this.#tables.filter(({ state }) => state === "done");
    if (done.length === 0 && this.#tables.every(({ rows_done }) => rows_done === 0)) return;
    const open = this.#tables
      .filter(({ state }) => state !== "done")
      .map(({ table, rows_done }) => `${table} after ${rows_done} rows`);
    const kept = done.length === 0 ? "" : `; finished and not sent again: ${done.map(({ table }) => table).join(", ")}`;
    say(
      `Going on with the snapshot that was not finished: ${open.join(", ")}${kept}. --restart begins all of them anew`,
    );
  }

  async #table(place: number): Promise<void> {
    const { source, owner, signal, onProgress, say } = this.#options;
    while (!signal.aborted) {
      if (!(await this.#room())) return;
      await this.#pace.turn(signal);
      if (signal.aborted) return;
      const known = this.#tables[place] as SnapshotTable;
      const chunk = await this.#patiently(() =>
        source.step(known.tableId, owner, LEASE_MS, this.#pace.rows, CHUNK_BYTES),
      );
      this.#heldAt = this.#options.clock.monotonic();
      if (chunk.begunAnew)
        say(`The key of ${known.table} is ordered otherwise than before: it began from its first row`);
      this.#rows += chunk.rows;
      this.#pace.took(chunk.rows);
      const before = chunk.begunAnew ? 0 : known.rows_done;
      this.#tables[place] = { ...known, state: chunk.ended ? "done" : "running", rows_done: before + chunk.rows };
      onProgress(this.#tables);
      if (chunk.ended) return;
    }
  }

  /** Waits while too much waits for the broker. False when it was asked to stop meanwhile. */
  #room(): Promise<boolean> {
    const { source, limits } = this.#options;
    return this.#until(async () => {
      const pressure = await source.pressure();
      if (!isAbove(pressure, limits)) return null;
      const waiting = `${pressure.changes} changes (${Math.ceil(pressure.bytes / 1_048_576)} MB) wait for the broker's confirmation`;
      return { waiting, publishing: pressure.publishing };
    });
  }

  #confirmed(): Promise<boolean> {
    const { source } = this.#options;
    return this.#until(async () => {
      await this.#refresh();
      const open = this.#tables.filter(({ confirmed }) => !confirmed).map(({ table }) => table);
      if (open.length === 0) return null;
      const { publishing } = await source.pressure();
      return {
        waiting: `all rows are in the queue; the last ones of ${open.join(", ")} are not confirmed yet`,
        publishing,
      };
    });
  }

  /** Looks again and again until there is nothing to wait for; says what it waits for when that does not move. */
  async #until(
    look: () => Promise<{ readonly waiting: string; readonly publishing: boolean } | null>,
  ): Promise<boolean> {
    const { clock, signal, say, onProgress, source, owner } = this.#options;
    const since = clock.monotonic();
    let told = "";
    let shown = since;
    while (!signal.aborted) {
      const found = await this.#patiently(look);
      if (found === null) return true;
      const now = clock.monotonic();
      const stalled = now - since >= STALLED_MS;
      const word = !found.publishing ? "none" : stalled ? "slow" : told;
      if (word !== told && (found.publishing || now - since >= RENEW_MS)) {
        told = word;
        say(
          found.publishing
            ? `Waiting: ${found.waiting}. replicator status tells whether the publisher moves`
            : `Waiting: ${found.waiting}, and no publisher is running here. Start one: replicator run --role publisher`,
        );
      }
      if (now - this.#heldAt >= RENEW_MS) {
        this.#heldAt = now;
        if (!(await this.#patiently(() => source.hold(owner, LEASE_MS))))
          throw busy((await source.holder())?.owner ?? "?");
      }
      if (now - shown >= RENEW_MS) {
        shown = now;
        onProgress(this.#tables);
      }
      await clock.sleep(LOOK_MS, signal);
    }
    return false;
  }

  async #refresh(): Promise<void> {
    const ids = this.#tables.map(({ tableId }) => tableId);
    this.#tables = [...(await this.#patiently(() => this.#options.source.progress(ids)))];
  }

  /** A step that the database did not answer is asked again: what it did stands in the database. */
  async #patiently<T>(step: () => Promise<T>): Promise<T> {
    const { clock, signal, say } = this.#options;
    const backoff = new Backoff({ firstMs: 100, maxMs: 2_000 });
    const since = clock.monotonic();
    for (;;) {
      try {
        return await step();
      } catch (error) {
        const mends = error instanceof ReplicatorError && error.retry !== "never";
        if (!mends || signal.aborted || clock.monotonic() - since > PATIENCE_MS) throw error;
        if (backoff.attempts === 0) say(`${error.message}: trying again for ${PATIENCE_MS / 1_000} s`);
        await clock.sleep(backoff.next(), signal);
      }
    }
  }
}

function busy(owner: string): ReplicatorError {
  return new ReplicatorError({
    code: "snapshot.busy",
    message: `Cannot send a snapshot: ${owner} is sending one`,
    retry: "never",
    fault: "environment",
    remedy: "replicator status shows how far it is; two at a time would only be slower",
  });
}
