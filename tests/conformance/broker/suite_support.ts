/** Tools of the Broker suite: waits that end, channels of one's own, and a reader that goes on over claims as the consumer does. */
import { expect } from "bun:test";
import type { Broker, Claim, Delivery, Feed, Position, SendOutcome } from "../../../src/core/broker.ts";
import type { Channel } from "../../../src/core/channel.ts";
import type { ReplicatorError } from "../../../src/core/errors.ts";
import { HEADER, type Message, messageId } from "../../../src/core/message.ts";
import type { BrokerFixture } from "./fixture.ts";

export const encoder = new TextEncoder();
export const decoder = new TextDecoder();

/** Rejects when the promise has not settled in time: a stall gets a name instead of the runner's timeout. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A condition that others make true: `changed()` wakes those who wait for it. */
export class Watch {
  #waiters = new Set<() => void>();
  changed(): void {
    for (const wake of this.#waiters) wake();
  }
  async until(ms: number, what: string, condition: () => boolean): Promise<void> {
    if (condition()) return;
    let check: (() => void) | undefined;
    const met = new Promise<void>((resolve) => {
      check = () => condition() && resolve();
      this.#waiters.add(check);
    });
    try {
      await within(ms, what, met);
    } finally {
      if (check) this.#waiters.delete(check);
    }
  }
}

/** One test's world: brokers it opened are closed at its end, channels have names nobody else uses. */
export class World {
  readonly #brokers: Broker[] = [];
  readonly #stop: AbortController[] = [];
  readonly fixture: BrokerFixture;

  constructor(fixture: BrokerFixture) {
    this.fixture = fixture;
  }

  open(options?: { readonly bufferBytes?: number }): Broker {
    return this.adopt(this.fixture.broker(options));
  }

  adopt(broker: Broker): Broker {
    this.#brokers.push(broker);
    return broker;
  }

  signal(): AbortSignal {
    const controller = new AbortController();
    this.#stop.push(controller);
    return controller.signal;
  }

  async ensured(broker: Broker, overrides: Partial<Channel> = {}): Promise<Channel> {
    const channel = newChannel(overrides);
    await within(30_000, "ensureChannel", broker.ensureChannel(channel, this.signal()));
    return channel;
  }

  async end(): Promise<void> {
    for (const controller of this.#stop) controller.abort();
    for (const broker of this.#brokers) await within(10_000, "close at the end of the test", broker.close());
  }
}

export function unique(prefix: string): string {
  return `${prefix}${crypto.randomUUID().replaceAll("-", "").slice(0, 12)}`;
}

/** The default channel of a contour nobody else has; with `partitions` or `name` given, an events channel. */
export function newChannel(overrides: Partial<Channel> = {}): Channel {
  const events = overrides.kind === "events" || (overrides.partitions ?? 1) > 1;
  return {
    contour: unique("c"),
    name: events ? unique("t") : "changes",
    kind: events ? "events" : "frames",
    partitions: 1,
    ...overrides,
  };
}

/** A message as the publisher makes it; the body is its number unless given. */
export function message(channel: Channel, sequence: number, overrides: Partial<Message> = {}): Message {
  const partition = overrides.partition ?? 0;
  return {
    id: messageId(channel.contour, 1, channel.name, partition, sequence),
    partition,
    key: null,
    body: encoder.encode(`body ${sequence}`),
    headers: {
      [HEADER.format]: channel.kind === "frames" ? "frame/1" : "event/1",
      [HEADER.contour]: channel.contour,
      [HEADER.epoch]: "1",
      [HEADER.sequence]: String(sequence),
      [HEADER.cut]: "1",
      "replicator-partition": String(partition),
    },
    ...overrides,
  };
}

export function messages(channel: Channel, from: number, to: number, overrides: Partial<Message> = {}): Message[] {
  return Array.from({ length: to - from + 1 }, (_, i) => message(channel, from + i, overrides));
}

export async function sendAll(broker: Broker, channel: Channel, list: readonly Message[]): Promise<void> {
  const publisher = broker.publisher();
  const outcomes = await publisher.send(channel, list, 30_000);
  await publisher.close();
  expect(failures(outcomes)).toEqual([]);
  expect(outcomes.length).toBe(list.length);
}

export function failures(outcomes: readonly SendOutcome[]): ReplicatorError[] {
  return outcomes.flatMap((outcome) => (outcome.ok ? [] : [outcome.error]));
}

export function feedOf(broker: Broker, channel: Channel): Feed {
  const feed = broker.feeds([channel])[0];
  if (!feed) throw new Error("feeds() returned no feed for the channel");
  return feed;
}

export function sequenceOf(delivery: Delivery): number {
  return Number(delivery.headers[HEADER.sequence]);
}

/** Takes `count` deliveries of one read, then leaves the iteration. */
export async function take(claim: Claim, from: Position | null, count: number, ms = 20_000): Promise<Delivery[]> {
  const stop = new AbortController();
  const taken: Delivery[] = [];
  const reading = (async () => {
    if (count === 0) return;
    for await (const delivery of claim.read(from, stop.signal)) {
      taken.push(delivery);
      if (taken.length >= count) break;
    }
  })();
  try {
    await within(ms, `take ${count} deliveries`, reading);
    return taken;
  } finally {
    stop.abort();
  }
}

export function lastOf<T>(list: readonly T[]): T {
  const last = list[list.length - 1];
  if (last === undefined) throw new Error("Expected a list that is not empty");
  return last;
}

/** The claims of one claimant, as they come. */
export class Claimant {
  readonly live = new Map<number, Claim>();
  readonly seen: Claim[] = [];
  readonly ended: Promise<void>;
  readonly watch: Watch;
  readonly #stop = new AbortController();

  constructor(
    broker: Broker,
    feed: Feed,
    group: string,
    watch = new Watch(),
    onClaim: (claim: Claim) => void = () => {},
  ) {
    this.watch = watch;
    this.ended = this.#run(broker, feed, group, onClaim);
    // The test awaits `ended` later or never; a rejection must not count as unhandled meanwhile.
    this.ended.catch(() => {});
  }

  async #run(broker: Broker, feed: Feed, group: string, onClaim: (claim: Claim) => void): Promise<void> {
    for await (const claim of broker.claims(feed, group, this.#stop.signal)) {
      this.seen.push(claim);
      this.live.set(claim.partition, claim);
      const gone = () => {
        if (this.live.get(claim.partition) === claim) this.live.delete(claim.partition);
        this.watch.changed();
      };
      if (claim.lost.aborted) gone();
      claim.lost.addEventListener("abort", gone);
      onClaim(claim);
      this.watch.changed();
    }
  }

  async claim(partition = 0, ms = 30_000): Promise<Claim> {
    await Promise.race([
      this.watch.until(ms, `a claim of partition ${partition}`, () => this.live.has(partition)),
      this.ended.then(() => {
        throw new Error("claims() ended while a claim was awaited");
      }),
    ]);
    return this.live.get(partition) as Claim;
  }

  async stop(ms = 10_000): Promise<void> {
    this.#stop.abort();
    await within(ms, "claims() ends after its signal", this.ended);
  }
}

/** Reads every claim it gets from its own memory of positions, as the consumer does from the ledger. */
export class Follower {
  readonly deliveries: Delivery[] = [];
  readonly positions = new Map<number, Position>();
  readonly watch = new Watch();
  readonly claimant: Claimant;
  readonly #stop = new AbortController();
  failure: unknown = null;

  constructor(broker: Broker, feed: Feed, group: string) {
    this.claimant = new Claimant(broker, feed, group, this.watch, (claim) => {
      this.#read(claim).catch((error) => {
        this.failure = error;
        this.watch.changed();
      });
    });
  }

  async #read(claim: Claim): Promise<void> {
    for await (const delivery of claim.read(this.positions.get(claim.partition) ?? null, this.#stop.signal)) {
      this.deliveries.push(delivery);
      this.positions.set(claim.partition, delivery.next);
      delivery.ack();
      this.watch.changed();
    }
  }

  sequences(): number[] {
    return this.deliveries.map(sequenceOf);
  }

  async received(count: number, ms = 30_000): Promise<void> {
    await this.watch.until(ms, `${count} deliveries`, () => this.deliveries.length >= count || this.failure !== null);
    if (this.failure) throw this.failure;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.claimant.stop();
  }
}

export function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}
