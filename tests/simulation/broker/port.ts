/** The Broker port as one process sees it. */
import type { Broker, BrokerFinding, Claim, Feed, Lag, Publisher } from "../../../src/core/broker.ts";
import type { Channel } from "../../../src/core/channel.ts";
import { Mailbox } from "../../../src/core/mailbox.ts";
import type { Host } from "../kernel/host.ts";
import type { Hazards, Network } from "../kernel/network.ts";
import type { Random } from "../kernel/random.ts";
import type { Scheduler } from "../kernel/scheduler.ts";
import { PortClaim } from "./claim.ts";
import { PortPublisher } from "./publisher.ts";
import type { BrokerServer } from "./server.ts";

export interface BrokerHazards extends Hazards {
  /** Probability that a delivery is followed by one that came before. */
  readonly duplicated: number;
  /** Probability, per fetch, that the partition is taken away. */
  readonly unclaimed: number;
}

export interface BrokerPortOptions {
  readonly server: BrokerServer;
  readonly host: Host;
  readonly network: Network;
  readonly scheduler: Scheduler;
  readonly random: Random;
  hazards(): BrokerHazards;
  isDown(): boolean;
  /** Longest way of a message to a reader, in ms. */
  lagMs(): number;
  /** Planted fault: a delivery is acknowledged when it is handed out. */
  readonly acknowledgesEarly: boolean;
  trace(line: () => string): void;
}

/** A partition that was given back, or taken away, is offered again after this pause. */
const OFFER_AGAIN_MS = 150;

export class BrokerPort implements Broker {
  readonly kind = "nats";
  readonly #options: BrokerPortOptions;

  constructor(options: BrokerPortOptions) {
    this.#options = options;
  }

  async ensureChannel(channel: Channel, signal: AbortSignal): Promise<void> {
    const { host, network, server } = this.#options;
    for (;;) {
      signal.throwIfAborted();
      try {
        return await network.ask(host, "broker", `ensure ${channel.name}`, () => server.ensure(channel));
      } catch {
        // It waits for the broker for ever.
        await host.clock.sleep(100, signal);
      }
    }
  }

  publisher(): Publisher {
    return new PortPublisher(this.#options);
  }

  feeds(channels: readonly Channel[]): Feed[] {
    const feeds = new Map<string, { name: string; partitions: number; channels: Channel[] }>();
    for (const channel of channels) {
      const name = this.#options.server.logName(channel);
      const feed = feeds.get(name) ?? { name, partitions: channel.partitions, channels: [] };
      feed.channels.push(channel);
      feeds.set(name, feed);
    }
    return [...feeds.values()];
  }

  async *claims(feed: Feed, group: string, signal: AbortSignal): AsyncGenerator<Claim, void, undefined> {
    const { host, server } = this.#options;
    while (!server.log(feed.name)) {
      if (signal.aborted) return;
      await host.clock.sleep(50, signal);
    }
    const offered = new Mailbox<Claim>();
    const live = new Set<PortClaim>();
    const offer = (partition: number) => {
      const log = server.log(feed.name)?.[partition];
      if (!log || signal.aborted) return;
      const claim = new PortClaim({ ...this.#options, log, feed, partition, group });
      live.add(claim);
      claim.lost.addEventListener("abort", () => {
        live.delete(claim);
        void host.clock.sleep(OFFER_AGAIN_MS, signal).then(() => offer(partition));
      });
      offered.put(claim);
    };
    for (let partition = 0; partition < feed.partitions; partition++) offer(partition);
    try {
      yield* offered.values(signal);
    } finally {
      for (const claim of [...live]) await claim.release();
    }
  }

  async lag(): Promise<Lag> {
    return { messages: null };
  }

  ping(): Promise<void> {
    return this.#options.network.ask(this.#options.host, "broker", "ping", () => undefined);
  }

  async check(): Promise<BrokerFinding[]> {
    return [];
  }

  async close(): Promise<void> {}
}
