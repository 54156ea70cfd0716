/**
 * Names the log a position counts in, so that a topic that was deleted and made anew is not read from an offset of the
 * old one. kafkajs cannot ask for the topic's id; but Kafka deletes a group's committed offsets together with the topic,
 * so the name is kept there: a random id in the metadata of the group's commit for each partition. When it is gone (topic
 * made anew, offsets reset or expired) a new id is written, positions of the old one are unknown, and reading begins at
 * the earliest message; the ledger drops what it has.
 */
import type { AdminConnection } from "./admin.ts";

const PREFIX = "replicator-log=";

export class LogIdentity {
  readonly #admin: AdminConnection;
  readonly #group: string;
  readonly #topic: string;
  readonly #known = new Map<number, string>();

  constructor(admin: AdminConnection, group: string, topic: string) {
    this.#admin = admin;
    this.#group = group;
    this.#topic = topic;
  }

  /** What every commit for the partition must carry, so that the name is kept. */
  metadata(partition: number): string | null {
    const id = this.#known.get(partition);
    return id === undefined ? null : PREFIX + id;
  }

  /** The partition went to somebody else: its name may change there. */
  forget(partition: number): void {
    this.#known.delete(partition);
  }

  /**
   * @param earliest what to commit when the group has no offset yet
   * @param commit writes the group's offset and metadata for the partition
   */
  async of(
    partition: number,
    earliest: string,
    signal: AbortSignal,
    commit: (offset: string, metadata: string) => Promise<void>,
  ): Promise<string> {
    const known = this.#known.get(partition);
    if (known !== undefined) return this.#name(known);
    const offsets = await this.#admin.call(`read the offsets of group "${this.#group}"`, signal, (admin) =>
      admin.fetchOffsets({ groupId: this.#group, topics: [this.#topic] }),
    );
    const found = offsets
      .find(({ topic }) => topic === this.#topic)
      ?.partitions.find((entry) => entry.partition === partition);
    const written = found?.metadata?.startsWith(PREFIX) ? found.metadata.slice(PREFIX.length) : null;
    const id = written ?? crypto.randomUUID();
    if (written === null) await commit(found && BigInt(found.offset) >= 0n ? found.offset : earliest, PREFIX + id);
    this.#known.set(partition, id);
    return this.#name(id);
  }

  #name(id: string): string {
    return `kafka/${this.#topic}/${id}`;
  }
}
