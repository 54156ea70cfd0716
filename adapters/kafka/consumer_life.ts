/** One kafkajs consumer from its connection to its end, and the claims of the partitions its group gives it. */
import type { Consumer, EachBatchPayload } from "kafkajs";
import { Backoff } from "../../src/core/backoff.ts";
import type { Claim, Feed, Position } from "../../src/core/broker.ts";
import { ReplicatorError } from "../../src/core/errors.ts";
import type { AdminConnection } from "./admin.ts";
import { KafkaClaim, type PartitionControl } from "./claim.ts";
import { Commits } from "./commits.ts";
import { withDeadline } from "./deadline.ts";
import { translate } from "./errors.ts";
import { LogIdentity } from "./log_identity.ts";
import type { KafkaContext } from "./options.ts";
import { type KafkaSession, openSession } from "./session.ts";
import { watchProgress } from "./watchdog.ts";

export interface ConsumerLifeOptions {
  readonly context: KafkaContext;
  readonly admin: AdminConnection;
  readonly feed: Feed;
  readonly group: string;
  offer(claim: Claim): void;
  /** The group has given us our partitions. */
  joined(): void;
}

/** Least that brokers allow by default; a process that died is replaced after it. */
const SESSION_MS = 6_000;
const HEARTBEAT_MS = 1_000;
const REBALANCE_MS = 10_000;
/** A paused partition that is resumed waits for the fetch under way: so long at most. Messages that come end the wait. */
const FETCH_WAIT_MS = 100;
const FETCH_BYTES = 2_097_152;
/** A batch waits so long for room before its partition is paused. */
const PATIENCE_MS = 100;
/** Joining can wait for a dead member's session and for the others to rejoin. */
const START_MS = SESSION_MS + REBALANCE_MS + 15_000;
const GOODBYE_MS = 1_000;
/** A released partition is offered again after this pause, so that one who cannot read it does not spin. */
const OFFER_AGAIN_MS = 200;

export class ConsumerLife implements PartitionControl {
  readonly clock: KafkaContext["clock"];
  readonly highBytes: number;
  readonly #options: ConsumerLifeOptions;
  readonly #fetchBytes: number;
  readonly #claims = new Map<number, KafkaClaim>();
  readonly #assigned = new Set<number>();
  readonly #session: KafkaSession;
  readonly #consumer: Consumer;
  readonly #identity: LogIdentity;
  readonly #commits: Commits;
  /** Aborted with the reason this life ends. */
  readonly #ended = new AbortController();
  /** When the fetch loop moved last, and since when each broker owes the answer to a fetch. */
  #moved: number;
  readonly #fetching = new Map<number, number>();
  #rebalancing = false;

  constructor(options: ConsumerLifeOptions) {
    const { context, admin, group, feed } = options;
    this.#options = options;
    this.clock = context.clock;
    this.#moved = context.clock.monotonic();
    this.#fetchBytes = Math.max(65_536, Math.min(FETCH_BYTES, Math.floor(context.bufferBytes / 4)));
    this.highBytes = Math.max(0, context.bufferBytes - this.#fetchBytes);
    this.#session = openSession(context);
    this.#consumer = this.#session.kafka.consumer({
      groupId: group,
      sessionTimeout: SESSION_MS,
      heartbeatInterval: HEARTBEAT_MS,
      rebalanceTimeout: REBALANCE_MS,
      minBytes: 1,
      maxWaitTimeInMs: FETCH_WAIT_MS,
      maxBytesPerPartition: this.#fetchBytes,
      maxBytes: this.#fetchBytes * 4,
      metadataMaxAge: 10_000,
      allowAutoTopicCreation: false,
      // We never send in transactions; one that a foreign program leaves open on a shared topic must not hold us up.
      readUncommitted: true,
      // Its own restart would keep a dead client; the next life begins with a new one.
      retry: { retries: 6, initialRetryTime: 100, maxRetryTime: 1_000, restartOnFailure: async () => false },
    });
    this.#identity = new LogIdentity(admin, group, feed.name);
    this.#commits = new Commits(this.#consumer, feed.name, this.#identity, context);
  }

  get heldBytes(): number {
    let bytes = 0;
    for (const claim of this.#claims.values()) bytes += claim.heldBytes;
    return bytes;
  }

  /** Returns when the signal aborts. @throws ReplicatorError: why the life ended otherwise */
  async run(signal: AbortSignal): Promise<void> {
    const { context, feed } = this.#options;
    const action = `read topic "${feed.name}"`;
    const until = AbortSignal.any([signal, this.#ended.signal]);
    try {
      this.#listen();
      await withDeadline(this.#start(), START_MS, this.clock, until);
      await watchProgress({
        context,
        topic: feed.name,
        tails: (ending) => this.#bounds(ending),
        awaited: () => this.#awaited(),
        movedAt: () => (this.#fetching.size > 0 ? Math.min(...this.#fetching.values()) : this.#moved),
        rebalancing: () => this.#rebalancing,
        signal: until,
      });
      this.#ended.signal.throwIfAborted();
    } catch (error) {
      if (signal.aborted) return;
      throw translate(this.#ended.signal.aborted ? this.#ended.signal.reason : error, action);
    } finally {
      await this.#end();
    }
  }

  async #start(): Promise<void> {
    await this.#consumer.connect();
    await this.#consumer.subscribe({ topics: [this.#options.feed.name], fromBeginning: true });
    await this.#consumer.run({
      autoCommit: false,
      partitionsConsumedConcurrently: Math.max(1, this.#options.feed.partitions) * 4,
      eachBatch: (payload) => this.#batch(payload),
    });
  }

  #listen(): void {
    const { GROUP_JOIN, REBALANCING, CRASH, FETCH_START, FETCH, END_BATCH_PROCESS } = this.#consumer.events;
    this.#consumer.on(CRASH, ({ payload }) => this.#ended.abort(payload.error));
    this.#consumer.on(FETCH_START, ({ payload }) => {
      // A fetch that failed is tried again under the same number: the wait goes on from the first.
      if (!this.#fetching.has(payload.nodeId)) this.#fetching.set(payload.nodeId, this.clock.monotonic());
    });
    this.#consumer.on(FETCH, ({ payload }) => {
      this.#fetching.delete(payload.nodeId);
      this.#moved = this.clock.monotonic();
    });
    this.#consumer.on(END_BATCH_PROCESS, ({ payload }) => {
      this.#claims.get(payload.partition)?.passed(payload);
    });
    this.#consumer.on(REBALANCING, () => {
      this.#rebalancing = true;
    });
    // Runs before the first fetch of the new generation: what is paused here is not fetched.
    this.#consumer.on(GROUP_JOIN, ({ payload }) => {
      this.#rebalancing = false;
      this.#fetching.clear();
      this.#moved = this.clock.monotonic();
      this.#assign(payload.memberAssignment[this.#options.feed.name] ?? []);
      this.#options.joined();
    });
  }

  #assign(partitions: readonly number[]): void {
    if (this.#ended.signal.aborted) return;
    const now = new Set(partitions);
    for (const partition of this.#assigned) {
      if (now.has(partition)) continue;
      this.#assigned.delete(partition);
      this.#identity.forget(partition);
      this.#commits.forget(partition);
      this.#claims.get(partition)?.lose();
      this.#claims.delete(partition);
    }
    for (const partition of now) {
      const isNew = !this.#assigned.has(partition);
      this.#assigned.add(partition);
      const claim = this.#claims.get(partition);
      if (claim) claim.rejoin();
      else {
        this.pause(partition);
        if (isNew) this.#offer(partition);
      }
    }
  }

  #offer(partition: number): void {
    const claim = new KafkaClaim(this.#options.feed, partition, this);
    this.#claims.set(partition, claim);
    this.#options.offer(claim);
  }

  async #batch({ batch, isStale }: EachBatchPayload): Promise<void> {
    if (isStale()) return;
    await this.#claims.get(batch.partition)?.accept(batch.messages, batch.lastOffset(), PATIENCE_MS);
  }

  #awaited(): Map<number, string> {
    const awaited = new Map<number, string>();
    for (const [partition, claim] of this.#claims) {
      if (claim.awaited !== null) awaited.set(partition, claim.awaited);
    }
    return awaited;
  }

  /** @throws ReplicatorError only when waiting cannot help */
  async resolve(
    partition: number,
    from: Position | null,
    signal: AbortSignal,
  ): Promise<{ identity: string; offset: string }> {
    const backoff = new Backoff({ firstMs: 100, maxMs: 2_000 });
    for (;;) {
      try {
        return await this.#resolveOnce(partition, from, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof ReplicatorError && error.retry === "never") throw error;
        this.#options.context.logger.debug({ partition, error: String(error) }, "looking up where to read from again");
        await this.clock.sleep(backoff.next(), signal);
        signal.throwIfAborted();
      }
    }
  }

  #bounds(signal: AbortSignal) {
    const topic = this.#options.feed.name;
    return this.#options.admin.call(`read the offsets of topic "${topic}"`, signal, (admin) =>
      admin.fetchTopicOffsets(topic),
    );
  }

  async #resolveOnce(partition: number, from: Position | null, signal: AbortSignal) {
    const topic = this.#options.feed.name;
    const bounds = (await this.#bounds(signal)).find((entry) => entry.partition === partition);
    if (!bounds) throw translate(new Error(`partition ${partition} has no leader`), `read topic "${topic}"`);
    const identity = await this.#identity.of(partition, bounds.low, signal, (offset, metadata) =>
      this.#commits.write([{ topic, partition, offset, metadata }]),
    );
    const offset = from !== null && from.identity === identity ? BigInt(from.offset) : -1n;
    const held = offset >= BigInt(bounds.low) && offset <= BigInt(bounds.high);
    return { identity, offset: held ? String(offset) : bounds.low };
  }

  seek(partition: number, offset: string): void {
    this.#control(() => this.#consumer.seek({ topic: this.#options.feed.name, partition, offset }));
  }

  pause(partition: number): void {
    this.#control(() => this.#consumer.pause([{ topic: this.#options.feed.name, partitions: [partition] }]));
  }

  resume(partition: number): void {
    this.#control(() => this.#consumer.resume([{ topic: this.#options.feed.name, partitions: [partition] }]));
  }

  /** kafkajs refuses these calls once it has stopped: the claims of this life are then lost in a moment anyway. */
  #control(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#ended.abort(error);
    }
  }

  acknowledge(partition: number, offset: string): void {
    this.#commits.acknowledge(partition, offset);
  }

  released(claim: KafkaClaim): void {
    if (this.#claims.get(claim.partition) !== claim) return;
    this.#claims.delete(claim.partition);
    void this.clock.sleep(OFFER_AGAIN_MS, this.#ended.signal).then(() => {
      const free = this.#assigned.has(claim.partition) && !this.#claims.has(claim.partition);
      if (free && !this.#ended.signal.aborted) this.#offer(claim.partition);
    });
  }

  async #end(): Promise<void> {
    this.#ended.abort();
    for (const claim of this.#claims.values()) claim.lose();
    this.#claims.clear();
    const { logger } = this.#options.context;
    const goodbye = async () => {
      await this.#commits.close();
      await this.#consumer.disconnect();
    };
    try {
      await withDeadline(goodbye(), GOODBYE_MS, this.clock, new AbortController().signal);
    } catch (error) {
      logger.debug({ error: String(error) }, "the consumer's connection did not close in order");
    }
    this.#session.destroy();
  }
}
