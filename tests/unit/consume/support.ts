/** A target store and deliveries in memory: what the consuming stage does with them is recorded. */
import type { Claim, Delivery, Feed, Position } from "../../../src/core/broker.ts";
import type { Channel } from "../../../src/core/channel.ts";
import { encodeFrame } from "../../../src/core/frame.ts";
import type { Lease } from "../../../src/core/lease.ts";
import type { HeldLease } from "../../../src/core/lease_keeper.ts";
import { envelopeHeaders } from "../../../src/core/message.ts";
import type {
  ApplyBatch,
  ApplyTransaction,
  LedgerKey,
  LedgerPosition,
  TargetStore,
} from "../../../src/core/target_store.ts";

export const LEASE: Lease = { owner: "me", term: 1, expiresAt: Number.MAX_SAFE_INTEGER };
export const HELD: HeldLease = { lost: new AbortController().signal, get: () => LEASE, require: () => undefined };

export interface FrameOptions {
  readonly contour?: string;
  readonly sequence: number;
  readonly cutNo?: number;
  readonly cutEnd?: boolean;
  readonly part?: { readonly transaction: string; readonly part: number; readonly last: boolean } | null;
  readonly bytes?: number;
}

/** What happened, in order: `begin`, `apply 1,2`, `commit 2`, `rollback`, `ack 2`. */
export class Journal {
  readonly lines: string[] = [];
  write(line: string): void {
    this.lines.push(line);
  }
}

export function frame(journal: Journal, offset: number, options: FrameOptions): Delivery {
  const { contour = "a", sequence, cutNo = sequence, cutEnd = true, part = null, bytes = 10 } = options;
  const chunk = {
    schema: "public",
    table: "users",
    operation: "INSERT" as const,
    transaction: part?.transaction ?? String(sequence),
    first_queue_id: "1",
    captured_at: "2026-01-01T00:00:00.000000Z",
    rows: 1,
    key: ["id"],
    stamp: ["version", "updated_at", "updated_by"] as const,
    data: "x".repeat(bytes),
    old: null,
  };
  return {
    body: encodeFrame({ contour, epoch: 1, sequence, cut_no: cutNo, chunks: [chunk] }),
    key: null,
    headers: envelopeHeaders({ format: "frame/1", contour, epoch: 1, sequence, cutNo, cutEnd, part }),
    next: { identity: "log", offset: String(offset + 1) },
    attempt: 1,
    ack: () => journal.write(`ack ${contour}${sequence}`),
    nack: () => undefined,
  };
}

/** Keeps positions; `fail` decides which step throws. */
export class FakeStore implements TargetStore {
  readonly positions = new Map<string, LedgerPosition>();
  readonly #journal: Journal;
  fail: (step: string) => void = () => undefined;

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  open = async () => undefined;
  close = async () => undefined;
  ping = async () => undefined;
  lease = async () => LEASE;
  releaseLease = async () => undefined;
  retryParked = async () => ({ tried: 0, resolved: 0 });
  recheckDeletes = async () => 0;
  trimConflictLog = async () => 0;
  counts = async () => ({ parked: 0, dead: 0, conflicts: 0, parkedSince: null, parkedTables: [] });
  position = async (key: LedgerKey) => this.positions.get(key.source) ?? null;

  async begin(key: LedgerKey): Promise<ApplyTransaction> {
    const applied: ApplyBatch[] = [];
    const journal = this.#journal;
    const step = (line: string) => {
      this.#journal.write(line);
      this.fail(line);
    };
    return {
      apply: async (batches) => {
        step(`apply ${batches.map(({ sequence }) => key.source + sequence).join()}`);
        applied.push(...batches);
      },
      commit: async () => {
        const last = applied.at(-1);
        if (!last) throw new Error("nothing was applied");
        step(`commit ${key.source}${last.sequence}`);
        const { epoch, sequence, cutNo, next } = last;
        this.positions.set(key.source, { epoch, sequence, cutNo, position: next });
        return { changes: applied.length, applied: applied.length, beaten: 0, overridden: 0, parked: 0 };
      },
      rollback: async () => undefined,
      abandon: () => journal.write("abandon"),
    };
  }
}

export function channels(...contours: readonly string[]): Channel[] {
  return contours.map((contour) => ({ contour, name: "changes", kind: "frames", partitions: 1 }));
}

/** A claim that gives a list of deliveries, from the position asked for, and then waits. */
export function claimOf(feedChannels: readonly Channel[], deliveries: readonly Delivery[]) {
  const feed: Feed = { name: "log", partitions: 1, channels: feedChannels };
  const asked: (Position | null)[] = [];
  const claim: Claim = {
    feed,
    partition: 0,
    lost: new AbortController().signal,
    async *read(from, signal) {
      asked.push(from);
      for (const [offset, delivery] of deliveries.entries()) {
        if (from !== null && offset < Number(from.offset)) continue;
        if (signal.aborted) return;
        yield delivery;
      }
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    },
    release: async () => undefined,
  };
  return { claim, asked };
}
