/**
 * The Broker port over NATS JetStream: one stream a contour, placed in that contour's cluster, one subject a channel and
 * partition. Where gateways join clusters, a contour reads the mirror in its own cluster.
 */
import { Backoff } from "../../src/core/backoff.ts";
import type { Broker, BrokerFinding, Claim, Feed, Lag, Position, Publisher } from "../../src/core/broker.ts";
import { type Channel, channelLabel } from "../../src/core/channel.ts";
import { isAbort, ReplicatorError } from "../../src/core/errors.ts";
import type { NatsClaim } from "./claim.ts";
import { claimPartitions } from "./claims.ts";
import { NatsLink } from "./connection.ts";
import { closedError, natsError } from "./errors.ts";
import { subjectLag } from "./lag.ts";
import { channelSubject, feedContour, partitionSubject, streamName } from "./names.ts";
import { DEFAULT_STREAM, type NatsOptions } from "./options.ts";
import { asFinding, preflight } from "./preflight.ts";
import { NatsPublisher } from "./publisher.ts";
import { SourceLogs } from "./source_log.ts";
import { ensureStream } from "./stream.ts";
import { abortError, untilAborted } from "./waits.ts";

/** How long ping and lag wait for an answer. */
const ANSWER_MS = 5_000;

/** @returns a broker that connects on first use; nothing happens before */
export function createNatsBroker(options: NatsOptions): NatsBroker {
  return new NatsBroker(options);
}

export class NatsBroker implements Broker {
  readonly kind = "nats";
  readonly #options: NatsOptions;
  readonly #link: NatsLink;
  readonly #logs: SourceLogs;
  readonly #publishers = new Set<NatsPublisher>();
  readonly #claims = new Set<NatsClaim>();
  /** Contours whose stream this process has made or found: it makes them again when they vanish. */
  readonly #ensured = new Set<string>();
  readonly #healing = new Set<string>();

  constructor(options: NatsOptions) {
    this.#options = options;
    this.#link = new NatsLink(options);
    this.#logs = new SourceLogs(this.#link, options);
  }

  async ensureChannel(channel: Channel, signal: AbortSignal): Promise<void> {
    channelSubject(channel);
    const stop = AbortSignal.any([signal, this.#link.closing]);
    const backoff = new Backoff({ firstMs: 100, maxMs: 5_000 });
    for (;;) {
      try {
        await this.#ensure(channel, stop);
        this.#ensured.add(channel.contour);
        return;
      } catch (error) {
        if (this.#link.closed) throw closedError();
        if (stop.aborted) throw abortError();
        const failure = natsError(`make the stream of ${channelLabel(channel)}`, error);
        if (failure.retry === "never") throw failure;
        const log = backoff.attempts === 0 ? "warn" : "debug";
        this.#options.logger[log]({ code: failure.code, remedy: failure.remedy }, `${failure.message}; trying again`);
      }
      await this.#options.clock.sleep(backoff.next(), stop);
    }
  }

  publisher(): Publisher {
    const publisher = new NatsPublisher(this.#link, this.#options, (channel) => this.#heal(channel));
    if (this.#link.closed) void publisher.close();
    else this.#publishers.add(publisher);
    return publisher;
  }

  feeds(channels: readonly Channel[]): Feed[] {
    return channels.map((channel) => ({
      name: channelSubject(channel),
      partitions: channel.partitions,
      channels: [channel],
    }));
  }

  claims(feed: Feed, group: string, signal: AbortSignal): AsyncIterable<Claim> {
    const shared = { link: this.#link, options: this.#options, logs: this.#logs, live: this.#claims };
    return claimPartitions({ ...shared, feed, group }, signal);
  }

  async lag(feed: Feed, partition: number, position: Position | null): Promise<Lag> {
    const stream = streamName(this.#options.stream ?? DEFAULT_STREAM, feedContour(feed));
    const subject = partitionSubject(feed.name, feed.partitions, partition);
    try {
      return await this.#answer(
        (signal) =>
          this.#link.api(signal, (manager) =>
            subjectLag(manager, { stream, subject, home: this.#link.home }, position),
          ),
        `count the lag of "${subject}"`,
      );
    } catch (error) {
      if (error instanceof ReplicatorError && error.retry !== "never") return { messages: null };
      throw error;
    }
  }

  async ping(signal: AbortSignal): Promise<void> {
    await this.#answer(
      async (until) => {
        const nc = await this.#link.connection(until);
        await untilAborted(nc.flush(), until);
      },
      `reach NATS at ${this.#link.servers}`,
      signal,
    );
  }

  async check(channels: readonly Channel[], signal: AbortSignal): Promise<BrokerFinding[]> {
    const stop = AbortSignal.any([signal, this.#link.closing]);
    try {
      const nc = await this.#link.connection(stop);
      return await this.#link.api(stop, async (manager) => {
        if (!nc.info) throw new Error("the server did not say what it is");
        return preflight(manager, nc.info, this.#options, channels);
      });
    } catch (error) {
      if (stop.aborted) throw this.#link.lastError ?? (this.#link.closed ? closedError() : abortError());
      const failure = natsError("check the NATS servers", error);
      const finding = asFinding(failure);
      if (finding) return [finding];
      throw failure;
    }
  }

  /** Bytes of messages held for readers at this moment (I11). */
  get heldBytes(): number {
    let bytes = 0;
    for (const claim of this.#claims) bytes += claim.heldBytes;
    return bytes;
  }

  async close(): Promise<void> {
    for (const publisher of this.#publishers) await publisher.close();
    this.#publishers.clear();
    await this.#link.close();
  }

  async #ensure(channel: Channel, stop: AbortSignal): Promise<void> {
    await this.#link.api(stop, (manager) => ensureStream(manager, this.#options, channel.contour, this.#link.home));
  }

  /** An answer within its time, or a ReplicatorError that says why there is none. */
  async #answer<T>(ask: (until: AbortSignal) => Promise<T>, action: string, signal?: AbortSignal): Promise<T> {
    const done = new AbortController();
    const late = new AbortController();
    const timer = this.#options.clock.sleep(ANSWER_MS, done.signal).then(() => late.abort());
    try {
      return await ask(AbortSignal.any([late.signal, this.#link.closing, ...(signal ? [signal] : [])]));
    } catch (error) {
      if (this.#link.closed) throw closedError();
      if (!isAbort(error)) throw natsError(action, error);
      throw this.#link.lastError ?? natsError(action, new Error("no answer came in time"));
    } finally {
      done.abort();
      await timer;
    }
  }

  /** A stream that was deleted while its publisher runs: made again, the caller's resend then passes. */
  #heal(channel: Channel): void {
    if (!this.#ensured.has(channel.contour) || this.#healing.has(channel.contour)) return;
    this.#healing.add(channel.contour);
    this.#ensure(channel, this.#link.closing)
      .catch((error) => {
        if (!isAbort(error))
          this.#options.logger.warn({ error }, `Could not make the stream of ${channelLabel(channel)} again`);
      })
      .finally(() => this.#healing.delete(channel.contour));
  }
}
