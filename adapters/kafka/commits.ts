/** Acknowledgements as Kafka shows them: the group's committed offsets, at most once a second. They serve lag and tools only; the ledger decides. */
import type { Consumer, TopicPartitionOffsetAndMetadata } from "kafkajs";
import type { LogIdentity } from "./log_identity.ts";
import type { KafkaContext } from "./options.ts";

const EVERY_MS = 1_000;

export class Commits {
  readonly #consumer: Consumer;
  readonly #topic: string;
  readonly #identity: LogIdentity;
  readonly #context: KafkaContext;
  readonly #acknowledged = new Map<number, bigint>();
  readonly #committed = new Map<number, bigint>();
  readonly #stop = new AbortController();
  #scheduled = false;

  constructor(consumer: Consumer, topic: string, identity: LogIdentity, context: KafkaContext) {
    this.#consumer = consumer;
    this.#topic = topic;
    this.#identity = identity;
    this.#context = context;
  }

  acknowledge(partition: number, offset: string): void {
    if (this.#stop.signal.aborted) return;
    const next = BigInt(offset);
    // After a read from an earlier position the commit stays where it was.
    if (next <= (this.#acknowledged.get(partition) ?? -1n)) return;
    this.#acknowledged.set(partition, next);
    if (this.#scheduled) return;
    this.#scheduled = true;
    const { clock } = this.#context;
    void clock.sleep(EVERY_MS, this.#stop.signal).then(async () => {
      this.#scheduled = false;
      if (!this.#stop.signal.aborted) await this.#flush();
    });
  }

  forget(partition: number): void {
    this.#acknowledged.delete(partition);
    this.#committed.delete(partition);
  }

  /** @throws what kafkajs throws */
  write(offsets: TopicPartitionOffsetAndMetadata[]): Promise<void> {
    return this.#consumer.commitOffsets(offsets);
  }

  /** Commits what is acknowledged and takes no more. Never rejects. */
  async close(): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    await this.#flush();
  }

  async #flush(): Promise<void> {
    const due = [...this.#acknowledged].filter(([partition, next]) => next > (this.#committed.get(partition) ?? -1n));
    if (due.length === 0) return;
    try {
      await this.write(
        due.map(([partition, next]) => ({
          topic: this.#topic,
          partition,
          offset: String(next),
          metadata: this.#identity.metadata(partition),
        })),
      );
      for (const [partition, next] of due) this.#committed.set(partition, next);
    } catch (error) {
      // Nothing is lost: the position is in the ledger, and the next acknowledgement tries again.
      this.#context.logger.debug({ topic: this.#topic, error: String(error) }, "committing offsets failed");
    }
  }
}
