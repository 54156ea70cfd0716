/** The broker's side: logs that several processes read and write, what readers acknowledged, what may be dropped. */
import type { Channel } from "../../../src/core/channel.ts";
import type { Message } from "../../../src/core/message.ts";

export interface BrokerRecord {
  readonly channel: Channel;
  readonly message: Message;
  readonly offset: number;
}

export interface BrokerServerOptions {
  /** A named topic is one log for all contours, as on Kafka; or each contour has its own, as on NATS. */
  readonly sharedTopics: boolean;
  /** A message whose id is there already is confirmed and not stored. */
  readonly deduplicates: boolean;
  /** What every group has acknowledged is dropped at once; otherwise all is kept. */
  readonly dropsAcknowledged: boolean;
  /** Who reads a log: nothing is dropped before each of them has acknowledged it. */
  readers(log: string): readonly string[];
  onStored(channel: Channel, message: Message): void;
  /** A reader of a group gets a record; again: the group had got it, or a later one, before. */
  onDelivered(again: boolean): void;
  /** A group has acknowledged these, and all before them. */
  onAcknowledged(group: string, records: readonly BrokerRecord[]): void;
}

export class PartitionLog {
  readonly records: BrokerRecord[] = [];
  /** group → offset of the first record it has not acknowledged. */
  readonly acknowledged = new Map<string, number>();
  /** group → offset of the first record that no reader of it has got. */
  readonly delivered = new Map<string, number>();
  readonly waiters = new Set<() => void>();
  readonly #ids = new Set<string>();
  readonly name: string;
  /** Offset of the oldest record kept. */
  earliest = 0;

  constructor(name: string) {
    this.name = name;
  }

  get tail(): number {
    return this.earliest + this.records.length;
  }

  from(offset: number, count: number): readonly BrokerRecord[] {
    const at = offset - this.earliest;
    return this.records.slice(at, at + count);
  }

  append(channel: Channel, message: Message, deduplicates: boolean): boolean {
    if (deduplicates && this.#ids.has(message.id)) return false;
    this.#ids.add(message.id);
    this.records.push({ channel, message, offset: this.tail });
    for (const wake of [...this.waiters]) wake();
    return true;
  }
}

export class BrokerServer {
  /** The identity of all its logs: they are never made anew. */
  readonly identity = "model";
  readonly #options: BrokerServerOptions;
  readonly #logs = new Map<string, PartitionLog[]>();

  constructor(options: BrokerServerOptions) {
    this.#options = options;
  }

  logName({ contour, name, kind }: Channel): string {
    return this.#options.sharedTopics && kind === "events" ? name : `${contour}.${name}`;
  }

  ensure(channel: Channel): void {
    const name = this.logName(channel);
    if (this.#logs.has(name)) return;
    this.#logs.set(
      name,
      Array.from({ length: channel.partitions }, () => new PartitionLog(name)),
    );
  }

  log(name: string): readonly PartitionLog[] | undefined {
    return this.#logs.get(name);
  }

  store(channel: Channel, message: Message): void {
    const log = this.#logs.get(this.logName(channel))?.[message.partition];
    if (!log) throw new Error(`Stores into "${this.logName(channel)}", which does not exist`);
    this.#options.onStored(channel, message);
    log.append(channel, message, this.#options.deduplicates);
  }

  deliver(log: PartitionLog, group: string, offset: number): void {
    const before = log.delivered.get(group) ?? 0;
    this.#options.onDelivered(offset < before);
    log.delivered.set(group, Math.max(before, offset + 1));
  }

  acknowledge(log: PartitionLog, group: string, offset: number): void {
    const before = log.acknowledged.get(group) ?? 0;
    if (offset <= before) return;
    log.acknowledged.set(group, offset);
    const { readers, dropsAcknowledged, onAcknowledged } = this.#options;
    onAcknowledged(group, log.from(Math.max(before, log.earliest), offset - Math.max(before, log.earliest)));
    if (!dropsAcknowledged) return;
    const least = Math.min(...readers(log.name).map((one) => log.acknowledged.get(one) ?? 0));
    const dropped = log.records.splice(0, Math.max(0, least - log.earliest));
    log.earliest += dropped.length;
  }
}
