/** The Store port's source side on PostgreSQL (src/core/source_store.ts): puts the parts of this folder together. */
import type { Chunk, EventRow, Operation } from "../../../src/core/chunk.ts";
import { type Clock, systemClock } from "../../../src/core/clock.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Lease } from "../../../src/core/lease.ts";
import type { Logger } from "../../../src/core/logger.ts";
import type { SnapshotStatus } from "../../../src/core/snapshot.ts";
import type { Backlog, ChannelLayout, ChannelState, Cut, SourceStore } from "../../../src/core/source_store.ts";
import { type Database, type DatabaseOptions, openDatabase, type Param, waitForDatabase } from "../connection.ts";
import { backlog } from "./backlog.ts";
import * as cuts from "./cuts.ts";
import { claimContour, openFirstEpoch, verifyHistory } from "./identity.ts";
import { departedChannels, Memberships, setLayout } from "./layout.ts";
import { type LeaseKind, Leases } from "./leases.ts";
import { type Line, readPages } from "./pages.ts";
import type { Shape } from "./queries.ts";
import { release } from "./release.ts";
import { snapshotStatus } from "./snapshot_source.ts";
import { type TableFacts, Tables } from "./tables.ts";

export interface SourceStoreOptions {
  /** Where, and as whom. applicationName must not be `replicator_consumer`; max is ours to choose. */
  readonly database: Omit<DatabaseOptions, "logger" | "clock" | "max">;
  /** service.contour */
  readonly contour: string;
  readonly logger: Logger;
  readonly clock?: Clock | undefined;
  /** Cuts that can be read at the same time, a connection each; default 4. Further readers wait. */
  readonly readers?: number | undefined;
  /** How old the current ring slot must be before release goes on to the next one; default a sixth of the retention, at least 4 h. */
  readonly rotateAfterMs?: number | undefined;
}

const OPERATIONS: Readonly<Record<string, Operation>> = {
  I: "INSERT",
  U: "UPDATE",
  D: "DELETE",
  T: "TRUNCATE",
  S: "SNAPSHOT",
};
/** Bytes of an event's envelope, roughly. */
const ENVELOPE_BYTES = 512;

/**
 * Generic plans: planning over the ring's partitions costs more than running. And always the index on (xid, id): a slot
 * just emptied has no statistics, and a plan made for it would sort a whole transaction for each of its pages.
 */
const PLANS = {
  plan_cache_mode: "force_generic_plan",
  enable_seqscan: "off",
  enable_bitmapscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
  max_parallel_workers_per_gather: "0",
};

/** Connects nowhere before open(). */
export function createSourceStore(options: SourceStoreOptions): SourceStore {
  return new PostgresSourceStore(options);
}

class PostgresSourceStore implements SourceStore {
  readonly #options: SourceStoreOptions;
  readonly #clock: Clock;
  /** Short statements: cuts, leases, confirmations. Readers have a pool of their own, so that they never starve a lease. */
  readonly #control: Database;
  readonly #readers: Database;
  readonly #leases: Leases;
  readonly #memberships: Memberships;
  readonly #tables: Tables;
  #guarded = false;

  constructor(options: SourceStoreOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const { logger } = options;
    const settings = { ...PLANS, ...options.database.sessionSettings };
    this.#control = openDatabase({
      ...options.database,
      logger,
      max: 4,
      // I1: a cut is on disk, with every commit it saw, before its first byte is sent.
      sessionSettings: { ...settings, synchronous_commit: "on" },
    });
    this.#readers = openDatabase({
      ...options.database,
      logger,
      max: options.readers ?? 4,
      sessionSettings: { ...settings, statement_timeout: "600s", work_mem: "16MB" },
    });
    this.#leases = new Leases(this.#control, this.#clock);
    this.#memberships = new Memberships(this.#control);
    this.#tables = new Tables(this.#control);
  }

  async open(signal: AbortSignal): Promise<{ readonly epoch: number }> {
    await waitForDatabase(this.#control, signal, this.#options.logger, this.#clock);
    const db = this.#control;
    let epoch = await verifyHistory(db, db);
    await claimContour(db, this.#options.contour);
    if (epoch === null) {
      await openFirstEpoch(db);
      epoch = await verifyHistory(db, db);
    }
    if (epoch === null) throw new Error("An epoch is there after the first was opened");
    this.#guard();
    return { epoch };
  }

  async setLayout(channels: readonly ChannelLayout[]): Promise<void> {
    await setLayout(this.#control, channels);
  }

  async departedChannels(): Promise<readonly { readonly name: string; readonly partitions: number }[]> {
    return departedChannels(this.#control);
  }

  async partitions(cut: Cut, channel: string): Promise<number> {
    return (await this.#memberships.of(cut.layoutVersion, channel))?.partitions ?? 0;
  }

  async lease(kind: LeaseKind, name: string, owner: string, ttlMs: number): Promise<Lease | null> {
    return this.#leases.take(kind, name, owner, ttlMs);
  }

  async releaseLease(kind: LeaseKind, name: string, lease: Lease): Promise<void> {
    await this.#leases.giveUp(kind, name, lease);
  }

  async takeCut(lease: Lease, frameBytes: number): Promise<Cut | null> {
    return cuts.takeCut(this.#control, lease, frameBytes);
  }

  async channelState(channel: string, partitions: number): Promise<ChannelState> {
    return cuts.channelState(this.#control, channel, partitions);
  }

  async cutsAfter(cutNo: number, limit: number): Promise<readonly Cut[]> {
    return cuts.cutsAfter(this.#control, cutNo, limit);
  }

  async *readChunks(cut: Cut, channel: string, signal: AbortSignal): AsyncIterable<readonly Chunk[]> {
    for await (const lines of this.#pages(cut, channel, "chunks", 0, [], signal)) {
      const chunks: Chunk[] = [];
      for (const line of lines) chunks.push(toChunk(line, await this.#tables.facts(line.table_id ?? "")));
      yield chunks;
    }
  }

  async *readEvents(cut: Cut, channel: string, signal: AbortSignal): AsyncIterable<readonly EventRow[]> {
    const extra = [this.#options.contour, cut.epoch, cut.cutNo];
    for await (const lines of this.#pages(cut, channel, "events", ENVELOPE_BYTES, extra, signal)) {
      yield lines.map(toEvent);
    }
  }

  async confirm(channel: string, lease: Lease, cut: Cut, sequences: readonly number[]): Promise<void> {
    await cuts.confirm(this.#control, channel, lease, cut, sequences);
  }

  async release(retentionMs: number): Promise<number> {
    const rotateAfterMs = this.#options.rotateAfterMs ?? Math.max(retentionMs / 6, 4 * 3_600_000);
    return release(this.#control, retentionMs, rotateAfterMs);
  }

  async backlog(): Promise<Backlog> {
    return backlog(this.#control);
  }

  async snapshots(): Promise<readonly SnapshotStatus[]> {
    return snapshotStatus(this.#control);
  }

  async ping(signal: AbortSignal): Promise<void> {
    await this.#control.ping(signal);
  }

  async close(): Promise<void> {
    await Promise.all([this.#control.close(), this.#readers.close()]);
  }

  /** From now on every new connection proves that it still leads to the same history: a failover changes it under us. */
  #guard(): void {
    if (this.#guarded) return;
    this.#guarded = true;
    for (const db of [this.#control, this.#readers]) {
      db.onConnect(async (connection) => {
        await verifyHistory(connection, db);
      });
    }
  }

  async *#pages(
    cut: Cut,
    channel: string,
    shape: Shape,
    rowCost: number,
    extra: readonly Param[],
    signal: AbortSignal,
  ): AsyncGenerator<readonly Line[]> {
    const membership = await this.#memberships.of(cut.layoutVersion, channel);
    if (!membership) return;
    const connection = await this.#readers.reserve(signal);
    try {
      const ours = (text: string) => this.#readers.ours(text);
      yield* readPages({ connection, ours, cut, membership, shape, rowCost, extra, signal });
    } finally {
      connection.release();
    }
  }
}

function toChunk(line: Line, table: TableFacts): Chunk {
  return {
    schema: table.schema,
    table: table.name,
    operation: operationOf(line.operation),
    transaction: line.transaction ?? "",
    first_queue_id: line.first_queue_id ?? "",
    captured_at: line.captured_at ?? "",
    rows: Number(line.rows),
    key: table.key,
    stamp: table.stamp,
    data: line.data ?? "",
    old: line.old ?? null,
  };
}

function toEvent(line: Line): EventRow {
  if (line.body === null || line.body === undefined || line.key === null || line.key === undefined) {
    throw badRow(`queue id ${line.queue_id} makes no event: its table, key or stamp is missing`);
  }
  return {
    key: line.key,
    body: line.body,
    table: line.table_name ?? "",
    operation: operationOf(line.operation),
    queue_id: line.queue_id ?? "",
  };
}

function operationOf(letter: string | null | undefined): Operation {
  const operation = OPERATIONS[letter ?? ""];
  if (!operation) throw badRow(`it has operation "${letter}"`);
  return operation;
}

/** I5: a row that cannot be read stops its channel, it is never left out. */
function badRow(what: string): ReplicatorError {
  return new ReplicatorError({
    code: "source.bad_queue_row",
    message: `Cannot read a row of the queue: ${what}`,
    retry: "never",
    fault: "environment",
    remedy:
      "Something else wrote into the queue, or a table's entry was removed from replicated_table: run replicator check",
  });
}
