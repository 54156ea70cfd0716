/** A claim of one partition of a memory log. Every claimant gets every partition: the lease in the target decides who reads. */
import type { Claim, Delivery, Feed, Position } from "../../src/core/broker.ts";
import type { Clock } from "../../src/core/clock.ts";
import type { MemoryHub, MemoryLog, MemoryPartition, MemoryRecord } from "./hub.ts";

export interface MemoryClaimOptions {
  readonly hub: MemoryHub;
  readonly log: MemoryLog;
  readonly feed: Feed;
  readonly partition: number;
  readonly group: string;
  readonly clock: Clock;
}

export class MemoryClaim implements Claim {
  readonly feed: Feed;
  readonly partition: number;
  readonly #options: MemoryClaimOptions;
  readonly #records: MemoryPartition;
  readonly #lost = new AbortController();
  #read = new AbortController();
  #notBefore = 0;
  #nacked: { offset: number; attempt: number } | null = null;

  constructor(options: MemoryClaimOptions) {
    const records = options.log.partitions[options.partition];
    if (!records) throw new RangeError(`Log has no partition ${options.partition}`);
    this.#options = options;
    this.#records = records;
    this.feed = options.feed;
    this.partition = options.partition;
    // From now on nothing this group has not acknowledged is dropped.
    if (!records.acknowledged.has(options.group)) records.acknowledged.set(options.group, records.earliest);
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  async *read(from: Position | null, signal: AbortSignal): AsyncGenerator<Delivery, void, undefined> {
    this.#read.abort();
    const mine = new AbortController();
    this.#read = mine;
    const until = AbortSignal.any([signal, mine.signal, this.lost]);
    const { hub, clock } = this.#options;
    const delay = this.#notBefore - clock.monotonic();
    if (delay > 0) await clock.sleep(delay, until);
    let offset = this.#start(from);
    while (!until.aborted) {
      const record = hub.state === "running" ? this.#records.at(offset) : undefined;
      if (!record) {
        // Retention can overtake a reader that stands still.
        if (offset < this.#records.earliest) offset = this.#records.earliest;
        else await this.#records.bell.wait(until);
        continue;
      }
      yield this.#delivery(record, offset, mine);
      offset++;
    }
  }

  #start(from: Position | null): number {
    const { earliest, tail } = this.#records;
    if (!from || from.identity !== this.#options.log.identity) return earliest;
    const offset = Number(from.offset);
    return offset >= earliest && offset <= tail ? offset : earliest;
  }

  #delivery(record: MemoryRecord, offset: number, read: AbortController): Delivery {
    let settled = false;
    return {
      ...record,
      next: { identity: this.#options.log.identity, offset: String(offset + 1) },
      attempt: this.#nacked?.offset === offset ? this.#nacked.attempt : 1,
      ack: () => {
        if (settled) return;
        settled = true;
        this.#records.acknowledge(this.#options.group, offset + 1);
      },
      nack: (delayMs) => {
        if (settled) return;
        settled = true;
        const attempt = this.#nacked?.offset === offset ? this.#nacked.attempt + 1 : 2;
        this.#nacked = { offset, attempt };
        this.#notBefore = this.#options.clock.monotonic() + delayMs;
        read.abort();
      },
    };
  }

  release(): Promise<void> {
    this.#lost.abort();
    return Promise.resolve();
  }
}
