/** A claim on one partition: every process gets one, the lease in the target decides who reads. */
import type { Claim, Delivery, Feed, Position } from "../../../src/core/broker.ts";
import type { BrokerPortOptions } from "./port.ts";
import type { BrokerRecord, PartitionLog } from "./server.ts";

export interface PortClaimOptions extends BrokerPortOptions {
  readonly log: PartitionLog;
  readonly feed: Feed;
  readonly partition: number;
  readonly group: string;
}

/** Records of one fetch at most. */
const FETCH = 6;

export class PortClaim implements Claim {
  readonly feed: Feed;
  readonly partition: number;
  readonly #options: PortClaimOptions;
  readonly #lost = new AbortController();
  #read = new AbortController();

  constructor(options: PortClaimOptions) {
    this.#options = options;
    this.feed = options.feed;
    this.partition = options.partition;
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  async *read(from: Position | null, signal: AbortSignal): AsyncGenerator<Delivery, void, undefined> {
    this.#read.abort();
    const mine = new AbortController();
    this.#read = mine;
    const until = AbortSignal.any([signal, mine.signal, this.lost]);
    const { log, random, hazards } = this.#options;
    const recent: BrokerRecord[] = [];
    for (let offset = this.#start(from); !until.aborted; ) {
      const records = await this.#fetch(offset, until);
      // Retention may have overtaken a reader that stood still.
      if (offset < log.earliest) offset = log.earliest;
      for (const record of records) {
        if (until.aborted) return;
        yield this.#delivery(record);
        offset = record.offset + 1;
        recent.push(record);
        if (random.chance(hazards().duplicated) && !until.aborted) yield this.#delivery(random.pick(recent.slice(-5)));
      }
    }
  }

  async release(): Promise<void> {
    this.#lost.abort();
  }

  #start(from: Position | null): number {
    const { log, server } = this.#options;
    if (from?.identity !== server.identity) return log.earliest;
    const offset = Number(from.offset);
    return offset >= log.earliest && offset <= log.tail ? offset : log.earliest;
  }

  /** The next records when there are some; none when the read ends. */
  #fetch(offset: number, until: AbortSignal): Promise<readonly BrokerRecord[]> {
    const { log, scheduler, random, host, hazards, isDown, lagMs } = this.#options;
    return new Promise((resolve) => {
      const end = (records: readonly BrokerRecord[]) => {
        log.waiters.delete(look);
        until.removeEventListener("abort", stop);
        resolve(records);
      };
      const stop = () => end([]);
      const arrived = () => {
        if (until.aborted) return;
        if (isDown()) {
          scheduler.after(100, host, arrived);
          return;
        }
        if (random.chance(hazards().unclaimed)) {
          this.#options.trace(() => `${host.name} loses ${this.feed.name}[${this.partition}]`);
          this.#lost.abort();
          return;
        }
        const records = log.from(Math.max(offset, log.earliest), random.whole(1, FETCH));
        if (records.length > 0) end(records);
        else log.waiters.add(look);
      };
      const look = () => {
        log.waiters.delete(look);
        const late = random.chance(hazards().late) ? random.between(1, 3_000) : 0;
        scheduler.after(late + random.between(0.1, lagMs()), host, arrived);
      };
      if (until.aborted) {
        resolve([]);
        return;
      }
      until.addEventListener("abort", stop, { once: true });
      look();
    });
  }

  #delivery({ message, offset }: BrokerRecord): Delivery {
    const { server, log, group, acknowledgesEarly, scheduler, random } = this.#options;
    server.deliver(log, group, offset);
    let settled = false;
    const ack = () => {
      if (settled) return;
      settled = true;
      // It travels to the broker on its own; nobody waits for it.
      scheduler.after(random.between(0.1, 1), null, () => server.acknowledge(log, group, offset + 1));
    };
    if (acknowledgesEarly) ack();
    return {
      body: message.body,
      key: message.key,
      headers: message.headers,
      next: { identity: server.identity, offset: String(offset + 1) },
      attempt: 1,
      ack,
      nack: () => {
        if (settled) return;
        settled = true;
        this.#read.abort();
      },
    };
  }
}
