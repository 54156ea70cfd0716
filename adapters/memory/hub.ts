/** The "server" of the memory broker: logs by name, shared by all brokers of the process that were given the same hub. */
import type { Channel } from "../../src/core/channel.ts";
import type { Message } from "../../src/core/message.ts";
import { Bell } from "./bell.ts";

export interface MemoryHubOptions {
  /** Bytes one partition may hold; a full one makes senders wait until every group has acknowledged more. 32 MB. */
  readonly partitionBytes?: number;
  /** True: a named topic is one log for all contours, as on Kafka. False: a log per contour and channel, as on NATS. */
  readonly sharedTopics?: boolean;
}

export interface MemoryRecord {
  readonly body: Uint8Array;
  readonly key: string | null;
  readonly headers: Readonly<Record<string, string>>;
}

/** One partition: records with growing offsets, the oldest dropped when all groups have acknowledged them and room is needed. */
export class MemoryPartition {
  #records: MemoryRecord[] = [];
  #base = 0;
  #bytes = 0;
  /** group → offset of the first record it has not acknowledged. */
  readonly acknowledged = new Map<string, number>();
  readonly bell = new Bell();
  readonly #capacity: number;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get earliest(): number {
    return this.#base;
  }

  /** Offset of the record to come. */
  get tail(): number {
    return this.#base + this.#records.length;
  }

  at(offset: number): MemoryRecord | undefined {
    return this.#records[offset - this.#base];
  }

  /** False when there is no room (I11): nothing that a known group still needs is ever dropped. */
  append(record: MemoryRecord): boolean {
    const bytes = sizeOf(record);
    if (this.#bytes + bytes > this.#capacity) this.dropBefore(Math.min(...this.acknowledged.values(), this.tail));
    if (this.#bytes > 0 && this.#bytes + bytes > this.#capacity) return false;
    this.#records.push(record);
    this.#bytes += bytes;
    this.bell.ring();
    return true;
  }

  acknowledge(group: string, offset: number): void {
    if (offset <= (this.acknowledged.get(group) ?? 0)) return;
    this.acknowledged.set(group, offset);
    if (this.#bytes > this.#capacity / 2) this.bell.ring();
  }

  dropBefore(offset: number): void {
    // Without a group nobody has read anything.
    if (this.acknowledged.size === 0 && offset > this.#base) return;
    this.forget(offset - this.#base);
  }

  /** Drops the oldest `count` records, needed or not: what retention does. */
  forget(count: number): void {
    const dropped = this.#records.splice(0, Math.max(0, count));
    this.#base += dropped.length;
    for (const record of dropped) this.#bytes -= sizeOf(record);
  }
}

export class MemoryLog {
  /** Changes when a log is deleted and made anew, and with every process. */
  readonly identity = `memory/${crypto.randomUUID()}`;
  readonly partitions: readonly MemoryPartition[];

  constructor(partitions: number, capacity: number) {
    this.partitions = Array.from({ length: partitions }, () => new MemoryPartition(capacity));
  }
}

export class MemoryHub {
  readonly #logs = new Map<string, MemoryLog>();
  readonly #options: Required<MemoryHubOptions>;
  /** `stopped`: nobody can reach it. `paused`: it takes calls and does not answer. */
  #state: "running" | "stopped" | "paused" = "running";
  /** Rings when the state changes or a log appears. */
  readonly bell = new Bell();

  constructor(options: MemoryHubOptions = {}) {
    this.#options = { partitionBytes: 32_000_000, sharedTopics: false, ...options };
  }

  get state(): "running" | "stopped" | "paused" {
    return this.#state;
  }

  /** Sends wait for their deadline and readers get nothing until resume(). */
  pause(): void {
    this.#become("paused");
  }

  resume(): void {
    this.#become("running");
  }

  /** Sends fail at once with `broker.unreachable` until resume(); what is in the logs stays. */
  stop(): void {
    this.#become("stopped");
  }

  logName(channel: Pick<Channel, "contour" | "name" | "kind">): string {
    const shared = this.#options.sharedTopics && channel.kind === "events";
    return shared ? channel.name : `replicator.${channel.contour}.${channel.name}`;
  }

  log(name: string): MemoryLog | undefined {
    return this.#logs.get(name);
  }

  /** The log of that name, made when it is missing. */
  ensure(name: string, partitions: number): MemoryLog {
    let log = this.#logs.get(name);
    if (!log) {
      log = new MemoryLog(partitions, this.#options.partitionBytes);
      this.#logs.set(name, log);
      this.bell.ring();
    }
    return log;
  }

  /** Deletes a log; its readers end. */
  delete(name: string): void {
    const log = this.#logs.get(name);
    this.#logs.delete(name);
    this.bell.ring();
    for (const partition of log?.partitions ?? []) partition.bell.ring();
  }

  #become(state: "running" | "stopped" | "paused"): void {
    this.#state = state;
    this.bell.ring();
    for (const log of this.#logs.values()) for (const partition of log.partitions) partition.bell.ring();
  }
}

export function recordOf(message: Message): MemoryRecord {
  return { body: message.body, key: message.key, headers: message.headers };
}

export function sizeOf(record: MemoryRecord): number {
  // Headers and object of a record cost about this much.
  return record.body.byteLength + (record.key?.length ?? 0) + 512;
}
