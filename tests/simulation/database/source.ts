/** The server's side of the SourceStore port: cuts, confirmations, release; as adapters/postgres/source does it. */
import { hadEnded, parseSnapshot } from "../../../adapters/postgres/source/snapshot.ts";
import { DEFAULT_CHANNEL } from "../../../src/core/channel.ts";
import type { Chunk, EventRow, Operation } from "../../../src/core/chunk.ts";
import type { Lease } from "../../../src/core/lease.ts";
import { leaseLost } from "../../../src/core/lease_keeper.ts";
import type { ChannelState, Cut } from "../../../src/core/source_store.ts";
import type { Database } from "./database.ts";
import { Leases } from "./leases.ts";
import type { QueueRow } from "./queue.ts";
import { TOPIC } from "./schema.ts";

export interface SourceServerOptions {
  readonly db: Database;
  /** Planted fault: the queue is read by ids above the last one seen, not between snapshots. */
  readonly idCursor: boolean;
  /** Called when a cut is recorded: everything committed now, and nothing else, is in it or before it. */
  onCut(cut: Cut): void;
}

interface Confirmation {
  readonly cutNo: number;
  readonly sequences: readonly number[];
}

/** Rows of one chunk at most. */
const CHUNK_ROWS = 3;
/** Transactions unknown to the last cut make a new one due after this long. */
const KNOW_OPEN_MS = 1_000;

export class SourceServer {
  readonly db: Database;
  readonly leases: Leases;
  readonly cuts: Cut[] = [];
  /** Those of the layout. */
  readonly channels = [DEFAULT_CHANNEL, TOPIC];
  /** Planted fault: cut number → the ids that were seen then. */
  readonly #idRanges = new Map<number, readonly [number, number]>();
  readonly #confirmed = new Map<string, Confirmation>();
  readonly #options: SourceServerOptions;
  #takenAt = Number.NEGATIVE_INFINITY;

  constructor(options: SourceServerOptions) {
    this.#options = options;
    this.db = options.db;
    this.leases = new Leases(options.db);
  }

  /** The cut that would be taken now, or null when nothing is due. */
  get due(): { readonly from: string; readonly to: string } | null {
    const { queue } = this.db;
    const from = this.cuts.at(-1)?.snapTo ?? "1:1:";
    const to = this.db.snapshot();
    const last = parseSnapshot(from);
    const present = parseSnapshot(to);
    const isDue =
      queue.hasFrom(Number(last.xmax)) ||
      last.xip.some((xid) => hadEnded(xid, present) && queue.has(Number(xid))) ||
      (this.#takenAt < this.db.clockMs() - KNOW_OPEN_MS && present.xip.some((xid) => xid >= last.xmax));
    return isDue ? { from, to } : null;
  }

  /** @throws `lease.lost` */
  takeCut(lease: Lease, frameBytes: number): Cut | null {
    if (!this.leases.holds("cutter", lease, true)) throw leaseLost("the cutter");
    const { due } = this;
    if (!due) return null;
    const cut: Cut = {
      cutNo: this.cuts.length + 1,
      epoch: 1,
      snapFrom: due.from,
      snapTo: due.to,
      layoutVersion: 1,
      frameBytes,
      splitter: "greedy/1",
      takenAt: "2026-01-01T00:00:00.000000Z",
    };
    this.cuts.push(cut);
    const last = this.#idRanges.get(cut.cutNo - 1)?.[1] ?? 0;
    this.#idRanges.set(cut.cutNo, [last, Math.max(last, ...this.db.queue.all.map(({ id }) => id))]);
    this.#takenAt = this.db.clockMs();
    this.#options.onCut(cut);
    return cut;
  }

  state(channel: string, partitions: number): ChannelState {
    const confirmed = this.#confirmed.get(channel);
    const sequences = Array.from({ length: partitions }, (_, partition) => confirmed?.sequences[partition] ?? 0);
    return { confirmedCut: confirmed?.cutNo ?? 0, sequences, epoch: 1 };
  }

  cutsAfter(cutNo: number, limit: number): readonly Cut[] {
    return this.cuts.slice(cutNo, cutNo + limit);
  }

  /** Safe to call twice. @throws `lease.lost` */
  confirm(channel: string, lease: Lease, cut: Cut, sequences: readonly number[]): void {
    if (!this.leases.holds(`channel ${channel}`, lease, false)) throw leaseLost(`channel ${channel}`);
    if (cut.cutNo >= this.state(channel, 1).confirmedCut) this.#confirmed.set(channel, { cutNo: cut.cutNo, sequences });
  }

  /** Planted fault: the channel's cursor moves when a cut is read, before anything of it is sent. */
  moveCursor(channel: string, cut: Cut): void {
    const { confirmedCut } = this.state(channel, 1);
    const sequences = this.#confirmed.get(channel)?.sequences ?? [];
    if (cut.cutNo > confirmedCut) this.#confirmed.set(channel, { cutNo: cut.cutNo, sequences });
  }

  /** The rows of a cut that belong to the channel. */
  rowsOf(cut: Cut, channel: string): readonly QueueRow[] {
    const topic = channel === DEFAULT_CHANNEL ? null : channel;
    const [above, upTo] = this.#idRanges.get(cut.cutNo) ?? [0, 0];
    const rows = this.#options.idCursor
      ? this.db.queue.all.filter(({ id }) => id > above && id <= upTo).sort((a, b) => a.id - b.id)
      : this.db.queue.between(cut.snapFrom, cut.snapTo);
    return rows.filter(({ table }) => table.topic === topic);
  }

  /** Drops what every channel has confirmed (I3). Returns how many transactions went. */
  release(): number {
    const released = Math.min(...this.channels.map((channel) => this.state(channel, 1).confirmedCut));
    const cut = this.cuts[released - 1];
    if (!cut) return 0;
    const snapshot = parseSnapshot(cut.snapTo);
    const ended = [...this.db.queue.xids].filter((xid) => hadEnded(BigInt(xid), snapshot));
    for (const xid of ended) this.db.queue.release(xid);
    return ended.length;
  }
}

/** Consecutive rows of one transaction, table and operation become chunks. */
export function chunksOf(rows: readonly QueueRow[]): Chunk[] {
  const runs: QueueRow[][] = [];
  for (const row of rows) {
    const run = runs.at(-1);
    const [first] = run ?? [];
    const joins = first?.xid === row.xid && first.table === row.table && first.operation === row.operation;
    if (run && joins && run.length < CHUNK_ROWS) run.push(row);
    else runs.push([row]);
  }
  return runs.flatMap((run) => {
    const [first] = run;
    return first ? [chunkOf(first, run)] : [];
  });
}

function chunkOf(first: QueueRow, run: readonly QueueRow[]): Chunk {
  return {
    schema: "public",
    table: first.table.name,
    operation: first.operation,
    transaction: String(first.xid),
    first_queue_id: String(first.id),
    captured_at: "2026-01-01T00:00:00.000000Z",
    rows: run.length,
    key: ["id"],
    stamp: ["version", "updated_at", "updated_by"],
    data: run.map(({ line }) => line).join(",\n"),
    old: first.operation === "DELETE" ? run.map(({ key }) => `{"id":"${key}"}`).join(",\n") : null,
  };
}

/** The body of the model's events: what apply needs, under the names of the wire. */
export interface EventBody {
  readonly operation: Operation;
  readonly transaction: string;
  readonly line: string;
}

export function eventOf(row: QueueRow): EventRow {
  const body: EventBody = { operation: row.operation, transaction: String(row.xid), line: row.line };
  return {
    key: row.operation === "TRUNCATE" ? "{}" : JSON.stringify({ id: row.key }),
    body: JSON.stringify(body),
    table: row.table.name,
    operation: row.operation,
    queue_id: String(row.id),
  };
}
