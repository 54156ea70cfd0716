/**
 * The publisher: per partition one produce request after the other (a second one in flight could overtake a failed
 * first), partitions beside each other. acks = all. No idempotent mode: a failed send can make kafkajs take the next one
 * for a duplicate; the ledger of the consumer removes duplicates.
 */
import type { Producer } from "kafkajs";
import type { Publisher, SendOutcome } from "../../src/core/broker.ts";
import type { Channel } from "../../src/core/channel.ts";
import type { ReplicatorError } from "../../src/core/errors.ts";
import type { Message } from "../../src/core/message.ts";
import { batches, byPartition, type Placed, sizeOf } from "./batches.ts";
import { DeadlinePassed, withDeadline } from "./deadline.ts";
import { closedError, isTooLarge, RefusedAsTooLarge, sendTimeout, translate } from "./errors.ts";
import { type KafkaContext, topicName } from "./options.ts";
import { type KafkaSession, openSession } from "./session.ts";

interface OpenProducer {
  readonly session: KafkaSession;
  readonly connected: Promise<Producer>;
  /** Sends under way. */
  users: number;
}

/** Above this a message is refused here: a request beyond the broker's socket.request.max.bytes would cost the connection. */
const REFUSED_BYTES = 16_000_000;
/** How long the broker waits for its replicas; below every sensible deadline, so that its own answer comes first. */
const REPLICATION_MS = 4_000;
const CLOSE_MS = 1_000;

export class KafkaPublisher implements Publisher {
  readonly #context: KafkaContext;
  readonly #closed = new AbortController();
  #open: OpenProducer | null = null;

  constructor(context: KafkaContext) {
    this.#context = context;
  }

  async send(channel: Channel, messages: readonly Message[], deadlineMs: number): Promise<readonly SendOutcome[]> {
    const topic = topicName(channel);
    const action = `send to topic "${topic}"`;
    const outcomes = new Array<SendOutcome | undefined>(messages.length).fill(undefined);
    if (messages.length === 0) return [];
    if (this.#closed.signal.aborted) return messages.map(() => ({ ok: false, error: closedError(action) }));

    const open = this.#opened();
    open.users++;
    const stop = new AbortController();
    const sending = [...byPartition(messages).values()].map((placed) =>
      this.#sendPartition(open, topic, placed, outcomes, stop.signal),
    );
    try {
      const { clock } = this.#context;
      await withDeadline(Promise.all(sending), deadlineMs, clock, this.#closed.signal);
    } catch (error) {
      // A connection that did not answer in time is not trusted again (kafkajs #1783).
      this.#retire(open);
      const late = error instanceof DeadlinePassed;
      const failure = late ? sendTimeout(topic, deadlineMs) : this.#failure(error, action);
      for (const index of outcomes.keys()) outcomes[index] ??= { ok: false, error: failure };
    } finally {
      stop.abort();
      open.users--;
      if (this.#open !== open && open.users === 0) open.session.destroy();
    }
    return outcomes.map((outcome) => outcome ?? { ok: false, error: sendTimeout(topic, deadlineMs) });
  }

  /** Never rejects: every message of the partition gets its outcome, unless `stopped` comes first. */
  async #sendPartition(
    open: OpenProducer,
    topic: string,
    placed: readonly Placed[],
    outcomes: (SendOutcome | undefined)[],
    stopped: AbortSignal,
  ): Promise<void> {
    // After the deadline the caller has its answer; what comes later must not change it.
    const settle = (list: readonly Placed[], outcome: SendOutcome) => {
      if (stopped.aborted) return;
      for (const { index } of list) outcomes[index] = outcome;
    };
    let failure: ReplicatorError | null = null;
    const unsent = [...batches(placed)];
    for (let batch = unsent.shift(); batch; batch = unsent.shift()) {
      if (stopped.aborted) return;
      // Order: behind a failure nothing of the partition is sent.
      if (failure) {
        settle(batch, { ok: false, error: failure });
        continue;
      }
      try {
        const producer = await open.connected;
        await this.#produce(producer, topic, batch);
        settle(batch, { ok: true });
      } catch (error) {
        if (!isTooLarge(error)) {
          // Its metadata may name a topic that is gone, its connection may be dead: the next send begins afresh.
          this.#retire(open);
          failure = this.#failure(error, `send to topic "${topic}"`);
          settle(batch, { ok: false, error: failure });
        } else if (batch.length > 1) {
          // The topic's limit may be below our batch: the messages are tried in smaller ones.
          const half = Math.ceil(batch.length / 2);
          unsent.unshift(batch.slice(0, half), batch.slice(half));
        } else {
          settle(batch, { ok: false, error: translate(error, `send ${sizes(batch)} to topic "${topic}"`) });
        }
      }
    }
  }

  async #produce(producer: Producer, topic: string, batch: readonly Placed[]): Promise<void> {
    const large = batch.find(({ message }) => sizeOf(message) > REFUSED_BYTES);
    if (large) throw new RefusedAsTooLarge(`above ${REFUSED_BYTES} bytes`);
    await producer.send({
      topic,
      acks: -1,
      timeout: REPLICATION_MS,
      messages: batch.map(({ message }) => ({
        partition: message.partition,
        key: message.key,
        value: bufferOf(message.body),
        headers: { ...message.headers },
      })),
    });
  }

  #failure(error: unknown, action: string): ReplicatorError {
    return this.#closed.signal.aborted ? closedError(action) : translate(error, action);
  }

  #opened(): OpenProducer {
    if (this.#open) return this.#open;
    const session = openSession(this.#context);
    const producer = session.kafka.producer({
      allowAutoTopicCreation: false,
      // The caller repeats; a repetition in here could overtake it.
      retry: { retries: 0 },
      // The caller says which partition; this only keeps kafkajs from choosing, and from its warning about defaults.
      createPartitioner:
        () =>
        ({ message }) =>
          message.partition ?? 0,
    });
    const connected = producer.connect().then(() => producer);
    connected.catch(() => undefined);
    this.#open = { session, connected, users: 0 };
    return this.#open;
  }

  /** New sends get a new connection; the last send under way on this one ends it. All of them have deadlines. */
  #retire(open: OpenProducer): void {
    if (this.#open === open) this.#open = null;
  }

  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    const open = this.#open;
    if (!open) return;
    const { clock, logger } = this.#context;
    const goodbye = open.connected.then((producer) => producer.disconnect());
    try {
      await withDeadline(goodbye, CLOSE_MS, clock, new AbortController().signal);
    } catch (error) {
      logger.debug({ error: String(error) }, "the producer's connection did not close in order");
    }
    this.#retire(open);
    open.session.destroy();
  }
}

/** The same bytes, without a copy. */
function bufferOf(body: Uint8Array): Buffer {
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}

function sizes(batch: readonly Placed[]): string {
  return `a message of ${batch.map(({ message }) => sizeOf(message)).join(", ")} bytes`;
}
