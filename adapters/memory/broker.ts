/**
 * The Broker port inside one process: the embedded default and the test double. It keeps nothing beyond the process;
 * the queue of the source holds what was not applied.
 */
import type { Broker, BrokerFinding, Claim, Feed, Lag, Position, Publisher } from "../../src/core/broker.ts";
import type { Channel } from "../../src/core/channel.ts";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import { Mailbox } from "../../src/core/mailbox.ts";
import { MemoryClaim } from "./claim.ts";
import { closed, tooFewPartitions, unreachable } from "./errors.ts";
import type { MemoryHub } from "./hub.ts";
import { MemoryPublisher } from "./publisher.ts";

export interface MemoryBrokerOptions {
  /** Brokers with the same hub reach each other. */
  readonly hub: MemoryHub;
  readonly clock?: Clock;
}

const PING_MS = 5_000;
/** A released partition is offered again after this pause, so that one who cannot read it does not spin. */
const OFFER_AGAIN_MS = 200;

/** @returns a broker whose "connection" is the hub; several of one hub act as several processes */
export function createMemoryBroker(options: MemoryBrokerOptions): Broker {
  return new MemoryBroker(options.hub, options.clock ?? systemClock);
}

class MemoryBroker implements Broker {
  readonly kind = "memory";
  readonly #hub: MemoryHub;
  readonly #clock: Clock;
  readonly #closed = new AbortController();

  constructor(hub: MemoryHub, clock: Clock) {
    this.#hub = hub;
    this.#clock = clock;
  }

  async ensureChannel(channel: Channel, signal: AbortSignal): Promise<void> {
    const until = AbortSignal.any([signal, this.#closed.signal]);
    while (this.#hub.state !== "running" && !until.aborted) await this.#hub.bell.wait(until);
    this.#refuseClosed();
    signal.throwIfAborted();
    const name = this.#hub.logName(channel);
    const log = this.#hub.ensure(name, channel.partitions);
    if (log.partitions.length < channel.partitions) {
      throw tooFewPartitions(name, log.partitions.length, channel.partitions);
    }
  }

  publisher(): Publisher {
    return new MemoryPublisher(this.#hub, this.#clock, this.#closed.signal);
  }

  feeds(channels: readonly Channel[]): Feed[] {
    const feeds = new Map<string, { name: string; partitions: number; channels: Channel[] }>();
    for (const channel of channels) {
      const name = this.#hub.logName(channel);
      const feed = feeds.get(name) ?? { name, partitions: 0, channels: [] };
      feed.partitions = Math.max(feed.partitions, channel.partitions);
      feed.channels.push(channel);
      feeds.set(name, feed);
    }
    return [...feeds.values()];
  }

  async *claims(feed: Feed, group: string, signal: AbortSignal): AsyncGenerator<Claim, void, undefined> {
    const until = AbortSignal.any([signal, this.#closed.signal]);
    while (!until.aborted) {
      const log = this.#hub.log(feed.name);
      if (!log) {
        await this.#hub.bell.wait(until);
        continue;
      }
      const gone = new AbortController();
      const offered = new Mailbox<Claim>();
      const live = new Set<MemoryClaim>();
      const offer = (partition: number) => {
        const claim = new MemoryClaim({ hub: this.#hub, log, feed, partition, group, clock: this.#clock });
        live.add(claim);
        claim.lost.addEventListener("abort", () => {
          live.delete(claim);
          void this.#clock.sleep(OFFER_AGAIN_MS, until).then(() => {
            if (!until.aborted && !gone.signal.aborted) offer(partition);
          });
        });
        offered.put(claim);
      };
      const watching = this.#deleted(feed.name, log.identity, AbortSignal.any([until, gone.signal])).then(() =>
        offered.end(),
      );
      for (const partition of log.partitions.keys()) offer(partition);
      try {
        yield* offered.values(until);
      } finally {
        gone.abort();
        for (const claim of [...live]) await claim.release();
        await watching;
      }
    }
  }

  async #deleted(name: string, identity: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && this.#hub.log(name)?.identity === identity) await this.#hub.bell.wait(signal);
  }

  async lag(feed: Feed, partition: number, position: Position | null): Promise<Lag> {
    this.#refuseClosed();
    const log = this.#hub.log(feed.name);
    const records = log?.partitions[partition];
    if (!log || !records) return { messages: null };
    const known = position?.identity === log.identity ? Number(position.offset) : records.earliest;
    return { messages: Math.max(0, records.tail - Math.max(known, records.earliest)) };
  }

  async ping(signal: AbortSignal): Promise<void> {
    this.#refuseClosed();
    const until = AbortSignal.any([signal, this.#closed.signal]);
    const deadline = this.#clock.monotonic() + PING_MS;
    while (this.#hub.state === "paused" && !until.aborted && this.#clock.monotonic() < deadline) {
      await this.#hub.bell.wait(until, deadline - this.#clock.monotonic());
    }
    signal.throwIfAborted();
    if (this.#hub.state !== "running") throw unreachable("Cannot reach the memory broker");
  }

  async check(_channels: readonly Channel[], signal: AbortSignal): Promise<BrokerFinding[]> {
    await this.ping(signal);
    return [
      {
        severity: "info",
        code: "broker.memory_only",
        message:
          "The memory broker joins replicators of one process only, and forgets its messages when the process ends",
        remedy: 'Set "broker: kafka" or "broker: nats" to replicate between sites',
      },
    ];
  }

  close(): Promise<void> {
    this.#closed.abort();
    return Promise.resolve();
  }

  #refuseClosed(): void {
    if (this.#closed.signal.aborted) throw closed();
  }
}
