/** The Broker port over Kafka (kafkajs 2.2.4; Kafka 2.1 to 4.x). */

import { Backoff } from "../../src/core/backoff.ts";
import type { Broker, BrokerFinding, Claim, Feed, Lag, Position, Publisher } from "../../src/core/broker.ts";
import type { Channel } from "../../src/core/channel.ts";
import { systemClock } from "../../src/core/clock.ts";
import { ReplicatorError } from "../../src/core/errors.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { Mailbox } from "../../src/core/mailbox.ts";
import { AdminConnection } from "./admin.ts";
import { checkTopics } from "./check.ts";
import { closedError } from "./errors.ts";
import { GroupReader } from "./group_reader.ts";
import { groupChannels, groupName, type KafkaContext, type KafkaOptions, topicName } from "./options.ts";
import { KafkaPublisher } from "./publisher.ts";
import { ensureTopic } from "./topics.ts";

const DEFAULT_BUFFER_BYTES = 8 * 1024 * 1024;

/** Makes a broker; nothing is connected before the first call. */
export function createKafkaBroker(options: KafkaOptions): KafkaBroker {
  return new KafkaBroker({
    brokers: options.brokers,
    ssl: options.ssl,
    sasl: options.sasl,
    topic: options.topic ?? {},
    clientId: options.clientId ?? "replicator",
    logger: options.logger ?? silentLogger,
    clock: options.clock ?? systemClock,
    bufferBytes: options.bufferBytes ?? DEFAULT_BUFFER_BYTES,
  });
}

export class KafkaBroker implements Broker {
  readonly kind = "kafka";
  readonly #context: KafkaContext;
  readonly #admin: AdminConnection;
  readonly #closed = new AbortController();
  readonly #publishers = new Set<KafkaPublisher>();
  readonly #readers = new Map<GroupReader, Promise<void>>();

  constructor(context: KafkaContext) {
    this.#context = context;
    this.#admin = new AdminConnection(context);
  }

  /** Bytes of messages held for readers now (I11). */
  get heldBytes(): number {
    let bytes = 0;
    for (const reader of this.#readers.keys()) bytes += reader.heldBytes;
    return bytes;
  }

  async ensureChannel(channel: Channel, signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#context;
    const topic = topicName(channel);
    const backoff = new Backoff({ firstMs: 200, maxMs: 5_000 });
    for (;;) {
      try {
        await ensureTopic(this.#context, this.#admin, channel, signal);
        if (backoff.attempts > 0) logger.info({ topic }, `topic "${topic}" is ready`);
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof ReplicatorError) || error.retry === "never") throw error;
        if (backoff.attempts === 0) {
          logger.warn({ topic, code: error.code, remedy: error.remedy }, `${error.message}; waiting for it`);
        }
        await clock.sleep(backoff.next(), AbortSignal.any([signal, this.#closed.signal]));
        signal.throwIfAborted();
        this.#refuseClosed(`make topic "${topic}"`);
      }
    }
  }

  publisher(): Publisher {
    const publisher = new KafkaPublisher(this.#context);
    if (this.#closed.signal.aborted) void publisher.close();
    this.#publishers.add(publisher);
    return publisher;
  }

  feeds(channels: readonly Channel[]): Feed[] {
    return groupChannels(channels);
  }

  async *claims(feed: Feed, group: string, signal: AbortSignal): AsyncGenerator<Claim, void, undefined> {
    const done = new AbortController();
    const until = AbortSignal.any([signal, this.#closed.signal, done.signal]);
    if (until.aborted) return;
    const offered = new Mailbox<Claim>();
    const reader = new GroupReader(this.#context, this.#admin, feed, groupName(group, feed), offered);
    const running = reader.run(until).then(
      () => offered.end(),
      (error: unknown) => offered.fail(error),
    );
    this.#readers.set(reader, running);
    try {
      yield* offered.values(until);
    } finally {
      done.abort();
      await running;
      this.#readers.delete(reader);
    }
  }

  async lag(feed: Feed, partition: number, position: Position | null): Promise<Lag> {
    const offsets = await this.#admin.call(`read the offsets of topic "${feed.name}"`, this.#closed.signal, (admin) =>
      admin.fetchTopicOffsets(feed.name),
    );
    const bounds = offsets.find((entry) => entry.partition === partition);
    if (!bounds) return { messages: null };
    const [low, high] = [BigInt(bounds.low), BigInt(bounds.high)];
    const offset = position === null ? low : BigInt(position.offset);
    // An offset of a log that is gone: everything that is there lies ahead.
    const from = offset < low || offset > high ? low : offset;
    return { messages: Number(high - from) };
  }

  async ping(signal: AbortSignal): Promise<void> {
    await this.#admin.call(`reach Kafka at ${this.#context.brokers.join(", ")}`, signal, (admin) =>
      admin.describeCluster(),
    );
  }

  async check(channels: readonly Channel[], signal: AbortSignal): Promise<BrokerFinding[]> {
    return await checkTopics(this.#context, this.#admin, channels, signal);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await Promise.all([...[...this.#publishers].map((publisher) => publisher.close()), ...this.#readers.values()]);
    this.#admin.close();
  }

  #refuseClosed(action: string): void {
    if (this.#closed.signal.aborted) throw closedError(action);
  }
}
