/**
 * The Broker port. One instance a process; adapters: memory, kafka, nats. All of them pass tests/conformance/broker.
 *
 * What an implementer owes:
 *  - every wait ends: by success, by a ReplicatorError, by the signal's abort, or by its deadline;
 *  - connections are remade for ever, with backoff, and one understandable log line when lost and one when back;
 *  - errors cross the port as ReplicatorError only: `retry: "backoff"` when waiting can help, `"never"` for refused
 *    credentials, certificates or rights;
 *  - close() may be called twice and from any state; it ends blocked calls and iterations within a second or two;
 *  - nothing buffers more than `bufferBytes` per claim (I11).
 */
import type { Channel } from "./channel.ts";
import type { ReplicatorError } from "./errors.ts";
import type { Message } from "./message.ts";

/** Where to go on reading: the broker's own position (`offset`: the next message to read) and the identity of the log it counts in. */
export interface Position {
  readonly identity: string;
  /** Decimal text: Kafka offset, NATS stream sequence. */
  readonly offset: string;
}

export interface Delivery {
  readonly body: Uint8Array;
  readonly key: string | null;
  readonly headers: Readonly<Record<string, string>>;
  /** The position to resume from when this delivery and all before it are durable. */
  readonly next: Position;
  /** 1 for the first delivery, where the broker knows. */
  readonly attempt: number;
  /** Acknowledges this delivery and all before it in the claim. Call only after the target has committed (I4). One-shot; never throws. Serves lag and cleaning only. */
  ack(): void;
  /** Asks for it (and what follows) again after `delayMs`; ends the current read. One-shot. */
  nack(delayMs: number): void;
}

/** A physical log of the broker and the channels that travel in it: on Kafka a named topic is shared by the contours. */
export interface Feed {
  /** The Kafka topic or the NATS subject. */
  readonly name: string;
  readonly partitions: number;
  readonly channels: readonly Channel[];
}

/** The broker's word that this process may read one partition of a feed. */
export interface Claim {
  readonly feed: Feed;
  readonly partition: number;
  /** Aborted when the broker gave the partition to somebody else, the log vanished, or the consumer closed. */
  readonly lost: AbortSignal;
  /**
   * Reads on from `from`; null, an unknown identity or an offset the log no longer holds mean: from the earliest message
   * kept. Iteration is the back-pressure: at most `bufferBytes` are held. A second call ends the first iteration.
   * Ends (returns) when the claim is lost or the signal aborts; throws ReplicatorError only when reading cannot go on.
   */
  read(from: Position | null, signal: AbortSignal): AsyncIterable<Delivery>;
  /** Gives the partition back. Safe to call twice. */
  release(): Promise<void>;
}

export type SendOutcome = { readonly ok: true } | { readonly ok: false; readonly error: ReplicatorError };

export interface Publisher {
  /**
   * Sends in order, pipelined; resolves when every message has an outcome (confirmed by the broker, or failed) or the
   * deadline has passed (those without an answer are failed with `broker.send_timeout`: unknown, not unsent).
   * Batches can half-succeed. The adapter does not resend; the caller resends from the first failure, same bytes.
   * Concurrent calls are allowed for different partitions only.
   */
  send(channel: Channel, messages: readonly Message[], deadlineMs: number): Promise<readonly SendOutcome[]>;
  close(): Promise<void>;
}

export interface Lag {
  /** Messages behind the tail; null when unknown. */
  readonly messages: number | null;
}

export interface BrokerFinding {
  readonly severity: "info" | "warning" | "blocking";
  readonly code: string;
  readonly message: string;
  readonly remedy: string;
}

export interface Broker {
  readonly kind: "memory" | "kafka" | "nats";
  /** Makes the channel's topic or stream when it is missing; safe to call twice and from several processes. Waits for the broker for ever, until the signal. */
  ensureChannel(channel: Channel, signal: AbortSignal): Promise<void>;
  publisher(): Publisher;
  /** Groups source channels by the log they travel in. Pure. */
  feeds(channels: readonly Channel[]): Feed[];
  /**
   * Claims of this process in the group, as the broker hands them out: on Kafka by the consumer group's assignment, on
   * NATS and in memory every partition at once (the lease in the target decides who reads). Waits until the feed exists.
   * Ends when the signal aborts.
   */
  claims(feed: Feed, group: string, signal: AbortSignal): AsyncIterable<Claim>;
  lag(feed: Feed, partition: number, position: Position | null): Promise<Lag>;
  /** Answers when the broker answers. @throws ReplicatorError */
  ping(signal: AbortSignal): Promise<void>;
  /** Preflight for `check`: versions, limits, durability settings, rights. */
  check(channels: readonly Channel[], signal: AbortSignal): Promise<BrokerFinding[]>;
  close(): Promise<void>;
}
