/**
 * The Store port, source side: the queue, its cuts and leases (architecture §4). Adapter: postgres.
 *
 * What an implementer owes: every call ends within its deadline (a silent network is an error with a name); errors are
 * ReplicatorError, `retry: "backoff"` for a database that is away, `"never"` for missing objects or rights; calls are
 * safe to repeat: a commit whose answer was lost is found done by the next call.
 */
import type { Chunk, EventRow } from "./chunk.ts";
import type { Lease } from "./lease.ts";
import type { SnapshotStatus } from "./snapshot.ts";

export interface ChannelLayout {
  readonly name: string;
  readonly partitions: number;
  /** Tables as SQL writes them (`users`, `sales.orders`). The default channel takes all the others as well. */
  readonly tables: readonly string[];
}

/** A committed cut (I13): which rows and how they are framed is decided by these values alone. */
export interface Cut {
  readonly cutNo: number;
  readonly epoch: number;
  readonly snapFrom: string;
  readonly snapTo: string;
  readonly layoutVersion: number;
  readonly frameBytes: number;
  readonly splitter: string;
  readonly takenAt: string;
}

export interface ChannelState {
  /** The last cut confirmed by the broker; cuts above it are to be sent. */
  readonly confirmedCut: number;
  /** Last sequence number per partition. */
  readonly sequences: readonly number[];
  readonly epoch: number;
}

export interface Backlog {
  /** Changes captured and not confirmed. */
  readonly unpublished: number;
  /** Since the oldest of these was captured; 0 when there are none. */
  readonly oldestSeconds: number;
  /** Of the last change captured, decimal text; `0` before the first. */
  readonly lastQueueId: string;
  /** Everything up to this id is confirmed, but for transactions that are open still. */
  readonly settledQueueId: string;
}

export interface SourceStore {
  /**
   * Verifies who and where we are: contour, not a standby, same cluster and timeline as the last cut, xids not gone back
   * (else ReplicatorError `source.history_broke`, fault environment, naming both), objects and rights present. Opens
   * epoch 1 on first use.
   */
  open(signal: AbortSignal): Promise<{ readonly epoch: number }>;
  /**
   * Records the channel layout when it differs from the newest; takes effect with the next cut.
   * @throws `source.table_unknown` when a table is not under replication
   */
  setLayout(channels: readonly ChannelLayout[]): Promise<void>;
  /** Channels that left the layout and still have cuts the broker has not confirmed: they are sent to their end (I5). */
  departedChannels(): Promise<readonly { readonly name: string; readonly partitions: number }[]>;
  /** How many partitions the channel had when the cut was taken: it changes between cuts only (I13). 0: it did not exist. */
  partitions(cut: Cut, channel: string): Promise<number>;
  /** Takes or renews a lease; null when somebody else holds it. `name` is '' for the cutter. */
  lease(kind: "cutter" | "channel", name: string, owner: string, ttlMs: number): Promise<Lease | null>;
  /** Gives a lease up at once, if still ours. */
  releaseLease(kind: "cutter" | "channel", name: string, lease: Lease): Promise<void>;
  /** Takes a cut when something new is visible; one round trip, committed durably (I1 I13). Null when there is nothing. */
  takeCut(lease: Lease, frameBytes: number): Promise<Cut | null>;
  /** Where a channel stands; sequences padded with 0 to `partitions`. */
  channelState(channel: string, partitions: number): Promise<ChannelState>;
  /** The cuts after `cutNo`, in order. */
  cutsAfter(cutNo: number, limit: number): Promise<readonly Cut[]>;
  /**
   * The chunks of a cut for a frame channel, transaction by transaction in the order of (last queue id of the
   * transaction, id), whole transactions, bounded memory for any size. A pure function of the cut (I13).
   */
  readChunks(cut: Cut, channel: string, signal: AbortSignal): AsyncIterable<readonly Chunk[]>;
  /** The same for an event channel: one row each, batches bounded in bytes. */
  readEvents(cut: Cut, channel: string, signal: AbortSignal): AsyncIterable<readonly EventRow[]>;
  /** Records that the broker has confirmed all messages of the cut. @throws `lease.lost` when the term is no longer ours. */
  confirm(channel: string, lease: Lease, cut: Cut, sequences: readonly number[]): Promise<void>;
  /** Empties ring slots whose rows are confirmed by all channels and older than the retention (I3). Returns how many. */
  release(retentionMs: number): Promise<number>;
  /** For /status. */
  backlog(): Promise<Backlog>;
  /** For /status: the last snapshot of each table, or the one under way. */
  snapshots(): Promise<readonly SnapshotStatus[]>;
  ping(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}
