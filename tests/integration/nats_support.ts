/** Tools of the NATS tests: brokers with test settings, an administrator's connection, a reader that goes on over claims. */
import { afterAll, afterEach, beforeAll } from "bun:test";
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { createNatsBroker, type NatsBroker } from "../../adapters/nats/broker.ts";
import type { NatsOptions } from "../../adapters/nats/options.ts";
import type { Broker, Claim, Position, SendOutcome } from "../../src/core/broker.ts";
import type { Channel } from "../../src/core/channel.ts";
import { systemClock } from "../../src/core/clock.ts";
import type { ReplicatorError } from "../../src/core/errors.ts";
import { type Logger, silentLogger } from "../../src/core/logger.ts";
import { HEADER, type Message, messageId } from "../../src/core/message.ts";
import { startNats } from "../servers/nats.ts";
import { until } from "../support/until.ts";

export function natsBroker(overrides: Partial<NatsOptions> & Pick<NatsOptions, "servers">): NatsBroker {
  return createNatsBroker({
    retentionMs: 3_600_000,
    bufferBytes: 16_000_000,
    clock: systemClock,
    logger: silentLogger,
    ...overrides,
  });
}

/** What a person with the `nats` program can do to the server. */
export async function administrator(server: string): Promise<{ nc: NatsConnection; manager: JetStreamManager }> {
  const nc = await connect({ servers: server });
  return { nc, manager: await jetstreamManager(nc, { checkAPI: false }) };
}

export function newChannel(overrides: Partial<Channel> = {}): Channel {
  const contour = `c${crypto.randomUUID().slice(0, 8)}`;
  return { contour, name: "changes", kind: "frames", partitions: 1, ...overrides };
}

export function messages(channel: Channel, from: number, to: number, body = new Uint8Array(100)): Message[] {
  return Array.from({ length: to - from + 1 }, (_, index) => ({
    id: messageId(channel.contour, 1, channel.name, 0, from + index),
    partition: 0,
    key: null,
    body,
    headers: { [HEADER.epoch]: "1", [HEADER.sequence]: String(from + index) },
  }));
}

export function failures(outcomes: readonly SendOutcome[]): ReplicatorError[] {
  return outcomes.flatMap((outcome) => (outcome.ok ? [] : [outcome.error]));
}

/** Sends as the product's publisher does: from the first failure on, the same bytes, until all is confirmed. */
export async function sendAll(
  broker: Broker,
  channel: Channel,
  list: readonly Message[],
  deadlineMs = 5_000,
): Promise<void> {
  const publisher = broker.publisher();
  let rest = list;
  await until(
    "all messages are confirmed",
    async () => {
      const outcomes = await publisher.send(channel, rest, deadlineMs);
      const failed = outcomes.findIndex((outcome) => !outcome.ok);
      rest = failed < 0 ? [] : rest.slice(failed);
      return rest.length === 0 || failures(outcomes)[0]?.message;
    },
    90_000,
  );
  await publisher.close();
}

/** Reads claim after claim from its own position, and keeps what the ledger would: the numbers that go up. */
export class Reader {
  readonly claims: Claim[] = [];
  /** Sequences in the order applied: each is one more than the last, or a gap that `gaps` counts. */
  readonly applied: number[] = [];
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  position: Position | null = null;
  failure: unknown = null;
  /** Set: a message beyond the next one is not applied but left for its resend, as the consumer does. */
  strict = false;

  constructor(broker: Broker, channel: Channel, group = "g") {
    this.#running = this.#claim(broker, channel, group);
  }

  async #claim(broker: Broker, channel: Channel, group: string): Promise<void> {
    const feed = broker.feeds([channel])[0];
    if (!feed) throw new Error("feeds() returned no feed for the channel");
    try {
      for await (const claim of broker.claims(feed, group, this.#stop.signal)) {
        this.claims.push(claim);
        await this.#read(claim);
      }
    } catch (error) {
      this.failure = error;
    }
  }

  async #read(claim: Claim): Promise<void> {
    for await (const delivery of claim.read(this.position, this.#stop.signal)) {
      const sequence = Number(delivery.headers[HEADER.sequence]);
      const last = this.applied.at(-1) ?? 0;
      if (sequence > last && (!this.strict || sequence === last + 1)) this.applied.push(sequence);
      this.position = delivery.next;
      delivery.ack();
    }
  }

  async reached(sequence: number, ms = 60_000): Promise<void> {
    await until(
      `the reader has applied ${sequence}`,
      () => this.failure ?? (this.applied.at(-1) === sequence || this.applied.at(-1)),
      ms,
    );
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}

/** A logger that keeps what a person would see. */
export function listeningLogger(): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  const keep = (_facts: object, message: string) => {
    lines.push(message);
  };
  const logger: Logger = { debug() {}, info: keep, warn: keep, error: keep, child: () => logger };
  return { logger, lines };
}

export function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => null,
    (error: unknown) => error,
  );
}

export const never = new AbortController().signal;

export function streamOf(channel: Channel): string {
  return `replicator_${channel.contour}`;
}

/** What a file's tests share: one server, from before the first to after the last of them. */
export interface OneServer {
  readonly manager: JetStreamManager;
  /** Closed after the test. */
  broker(options?: Partial<NatsOptions>): NatsBroker;
  /** Reads at once; stopped after the test. */
  read(one: NatsBroker, channel: Channel, group?: string): Reader;
  /** A new channel whose stream is there. */
  ensured(one: NatsBroker): Promise<Channel>;
}

/** To be called at the top of a test file: registers its hooks. */
export function oneServer(): OneServer {
  const open: NatsBroker[] = [];
  const readers: Reader[] = [];
  const closers: (() => Promise<void>)[] = [];
  let url = "";
  let manager: JetStreamManager | undefined;
  beforeAll(async () => {
    const server = await startNats();
    closers.push(() => server.close());
    url = server.url;
    const person = await administrator(url);
    closers.push(() => person.nc.close());
    manager = person.manager;
  });
  afterEach(async () => {
    for (const reader of readers.splice(0)) await reader.stop();
    for (const made of open.splice(0)) await made.close();
  });
  afterAll(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });
  return {
    get manager() {
      if (!manager) throw new Error("The server is started before the first test");
      return manager;
    },
    broker(options = {}) {
      const made = natsBroker({ servers: [url], ...options });
      open.push(made);
      return made;
    },
    read(one, channel, group) {
      const reader = new Reader(one, channel, group);
      readers.push(reader);
      return reader;
    },
    async ensured(one) {
      const channel = newChannel();
      await one.ensureChannel(channel, never);
      return channel;
    },
  };
}
