/** A claim of one partition: reads from the position it is given, whatever happened to the connection, the durable or the stream. */
import type { StreamInfo } from "@nats-io/jetstream";
import { type MsgHdrs, errors as nats } from "@nats-io/nats-core";
import { Backoff } from "../../src/core/backoff.ts";
import type { Claim, Delivery, Feed, Position } from "../../src/core/broker.ts";
import { isAbort, type ReplicatorError } from "../../src/core/errors.ts";
import type { NatsLink } from "./connection.ts";
import { type Durable, type DurableRequest, durableState, openDurable, takenOver } from "./durable.ts";
import { apiCode, NOT_FOUND, natsError } from "./errors.ts";
import type { NatsOptions } from "./options.ts";
import { type PullEnd, PullSession } from "./pull.ts";
import type { SourceLog, SourceLogs } from "./source_log.ts";
import { standsStill } from "./standstill.ts";
import { sequenceOf, startSequence } from "./start_sequence.ts";
import { nextMessage } from "./stream.ts";
import { decodeHeaders } from "./wire.ts";

/** What fails for so long is said aloud: by then it is not a server that restarts. */
const SAY_AFTER_MS = 10_000;
/** How often a reader behind a gateway looks whether the mirror, or its origin, is the one to read. */
const LOOK_AT_LOG_MS = 3_000;

export interface ClaimOptions {
  readonly link: NatsLink;
  readonly options: NatsOptions;
  readonly feed: Feed;
  readonly partition: number;
  readonly subject: string;
  /** Of the contour that sends; what is read may be our mirror of it. */
  readonly stream: string;
  readonly durable: string;
  readonly logs: SourceLogs;
  /** The broker closes, or nobody asks for claims any more. */
  readonly stop: AbortSignal;
}

interface Incoming {
  readonly body: Uint8Array;
  readonly headers: MsgHdrs | undefined;
  readonly sequence: number;
  readonly deliveryCount: number;
  readonly ack: () => void;
}

/** What one read works on, from one opening of the durable to the next. */
interface Reading {
  readonly ended: AbortController;
  readonly stop: AbortSignal;
  identity: string | null;
  /** First stream sequence that was not given to the reader yet. */
  next: number;
  opened: (Durable & { readonly stream: string }) | null;
}

export class NatsClaim implements Claim {
  readonly #options: ClaimOptions;
  readonly #lost = new AbortController();
  #reading: AbortController | null = null;
  #session: PullSession | null = null;
  /** After nack(): not before this time, and which message it was for. */
  #notBefore = 0;
  #nacked: { readonly sequence: number; readonly attempt: number } | null = null;

  constructor(options: ClaimOptions) {
    this.#options = options;
    if (options.stop.aborted) this.#lost.abort();
    else options.stop.addEventListener("abort", () => this.#lost.abort(), { once: true, signal: this.#lost.signal });
  }

  get feed(): Feed {
    return this.#options.feed;
  }

  get partition(): number {
    return this.#options.partition;
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  get heldBytes(): number {
    return this.#session?.heldBytes ?? 0;
  }

  read(from: Position | null, signal: AbortSignal): AsyncIterable<Delivery> {
    this.#reading?.abort();
    const ended = new AbortController();
    this.#reading = ended;
    const stop = AbortSignal.any([signal, this.lost, ended.signal]);
    return this.#read(from, { ended, stop, identity: null, next: sequenceOf(from) ?? 1, opened: null });
  }

  release(): Promise<void> {
    this.#lost.abort();
    return Promise.resolve();
  }

  async *#read(from: Position | null, reading: Reading): AsyncGenerator<Delivery, void, undefined> {
    const { clock } = this.#options.options;
    const { stop } = reading;
    const backoff = new Backoff({ firstMs: 50, maxMs: 5_000 });
    let failingSince: number | null = null;
    const pauseMs = this.#notBefore - clock.monotonic();
    if (pauseMs > 0) await clock.sleep(pauseMs, stop);
    while (!stop.aborted) {
      try {
        for await (const incoming of this.#deliveries(from, reading)) {
          backoff.reset();
          failingSince = null;
          yield this.#delivery(incoming, reading);
          if (stop.aborted) return;
        }
      } catch (error) {
        if (stop.aborted || isAbort(error)) return;
        const failure = this.#judge(error);
        // A connection that is lost is said once for all its users; what stays wrong on a connection that stands, here.
        failingSince ??= clock.monotonic();
        if (failure && this.#options.link.lastError === null && clock.monotonic() - failingSince > SAY_AFTER_MS) {
          const { code, message, remedy } = failure;
          this.#options.options.logger.warn({ code, remedy }, `${message}; trying again until it works`);
          failingSince = Number.POSITIVE_INFINITY;
        }
      }
      if (!stop.aborted) await clock.sleep(backoff.next(), stop);
    }
  }

  /** Until the durable has to be opened anew; whether that helps is for the caller to find out by trying. */
  async *#deliveries(from: Position | null, reading: Reading): AsyncGenerator<Incoming> {
    const { link, options, logs, stream: source, subject, durable: name } = this.#options;
    const log = await logs.find(source, reading.next, reading.stop);
    if (!log) return this.#vanished(`The NATS stream "${source}" is gone`);
    const { info, identity } = log;
    const stream = info.config.name;
    if (reading.identity === null) {
      reading.identity = identity;
      reading.next = startSequence(from, identity, { ...info.state, last_seq: log.lastSequence });
    } else if (reading.identity !== identity) return this.#vanished(`The NATS stream "${source}" was made anew`);
    const brief = log.remote && info.config.mirror === undefined;
    const request: DurableRequest = { stream, name, subject, start: reading.next, reader: crypto.randomUUID(), brief };
    const opened = reading.opened;
    if (opened?.stream === stream && (await link.api(reading.stop, (manager) => takenOver(manager, request, opened)))) {
      return this.#vanished(`Another process reads "${subject}" with the same group`);
    }
    const durable = await link.api(reading.stop, (manager) => openDurable(manager, request));
    reading.opened = { ...durable, stream };
    const nc = link.current;
    if (!nc || reading.stop.aborted) return;
    yield* this.#catchUp(durable, info, reading);
    const session = new PullSession({
      nc,
      nextSubject: `${link.apiPrefix}.CONSUMER.MSG.NEXT.${stream}.${name}`,
      nextDelivery: durable.nextDelivery,
      after: reading.next - 1,
      bufferBytes: options.bufferBytes,
      clock: options.clock,
    });
    const stopSession = () => session.stop();
    const unlisten = link.listen((event) => {
      if (event.type === "down") session.finish({ reason: "down" });
      else if (event.type === "error" && event.error instanceof nats.PermissionViolationError) {
        if (event.error.subject.startsWith(`${link.apiPrefix}.CONSUMER.MSG.NEXT.${stream}.`)) {
          session.finish({ reason: "error", error: event.error });
        }
      }
    });
    reading.stop.addEventListener("abort", stopSession, { once: true });
    this.#session = session;
    const over = new AbortController();
    try {
      session.start();
      const watching = AbortSignal.any([reading.stop, over.signal]);
      void this.#watch(session, stream, watching);
      if (log.remote) void this.#watchLog(session, log, reading, watching);
      for (let pulled = await session.next(); pulled; pulled = await session.next()) {
        const { msg, streamSequence, deliveryCount } = pulled;
        reading.next = streamSequence + 1;
        // I11: acknowledgements outlive their messages, so they must not hold the body.
        const { reply } = msg;
        const ack = () => {
          // A later opening of the durable counts anew: only its own deliveries are acknowledged.
          if (this.#session === session && link.current === nc && reply) nc.publish(reply, "+ACK");
        };
        yield { body: msg.data, headers: msg.headers, sequence: streamSequence, deliveryCount, ack };
      }
      this.#explain(session.end);
    } finally {
      over.abort();
      unlisten();
      reading.stop.removeEventListener("abort", stopSession);
      session.stop();
    }
  }

  /** Ends the session when its durable stands still. Never rejects. */
  async #watch(session: PullSession, stream: string, signal: AbortSignal): Promise<void> {
    const { link, options, durable: name } = this.#options;
    const state = () =>
      // Without an answer nothing is known; heartbeats tell of a server that is away.
      link.api(signal, (manager) => durableState(manager, { stream, name })).catch(() => null);
    if (await standsStill({ session, state, clock: options.clock, signal })) session.finish({ reason: "standstill" });
  }

  /** Ends the session when another copy of the log is to be read, see source_log.ts. Never rejects. */
  async #watchLog(session: PullSession, log: SourceLog, reading: Reading, signal: AbortSignal): Promise<void> {
    const { logs, stream, options } = this.#options;
    while (!signal.aborted) {
      await options.clock.sleep(LOOK_AT_LOG_MS, signal);
      if (signal.aborted) return;
      try {
        const now = await logs.find(stream, reading.next, signal);
        if (now?.identity === log.identity && now.info.config.name === log.info.config.name) continue;
        session.finish({ reason: "moved" });
        return;
      } catch (error) {
        // Neither copy can be asked: the session says what is wrong with the one it reads.
        if (!isAbort(error))
          options.logger.debug({ error, stream }, "Could not look for the NATS stream and its mirror");
      }
    }
  }

  /** What an old durable has delivered to somebody already is behind its memory: fetched from the stream itself. */
  async *#catchUp(durable: Durable, info: StreamInfo, reading: Reading): AsyncGenerator<Incoming> {
    const { link, subject } = this.#options;
    while (reading.next <= durable.delivered && !reading.stop.aborted) {
      const sequence = reading.next;
      const stored = await link.api(reading.stop, (manager) => nextMessage(manager, info, sequence, subject));
      if (!stored && durable.delivered >= info.state.first_seq) {
        // What was delivered is stored: "not found" is the word of a copy that is behind, and is asked again.
        throw new nats.TimeoutError();
      }
      if (!stored || stored.seq > durable.delivered) break;
      reading.next = stored.seq + 1;
      yield { body: stored.data, headers: stored.header, sequence: stored.seq, deliveryCount: 1, ack: () => {} };
    }
    reading.next = Math.max(reading.next, durable.delivered + 1);
  }

  #delivery(incoming: Incoming, reading: Reading): Delivery {
    const { clock, logger } = this.#options.options;
    const { sequence, ack } = incoming;
    const repeated = this.#nacked?.sequence === sequence ? this.#nacked.attempt : 1;
    const attempt = Math.max(repeated, incoming.deliveryCount);
    let settled = false;
    return {
      body: incoming.body,
      ...decodeHeaders(incoming.headers),
      next: { identity: reading.identity ?? "", offset: String(sequence + 1) },
      attempt,
      ack: () => {
        if (settled) return;
        settled = true;
        try {
          ack();
        } catch (error) {
          // Serves lag and cleaning only: the next one covers it.
          logger.debug({ error, sequence }, "Could not acknowledge to NATS");
        }
      },
      nack: (delayMs) => {
        if (settled) return;
        settled = true;
        this.#nacked = { sequence, attempt: attempt + 1 };
        this.#notBefore = clock.monotonic() + delayMs;
        reading.ended.abort();
      },
    };
  }

  #vanished(reason: string): void {
    const { options, subject } = this.#options;
    options.logger.warn({ subject }, `${reason}; the partition is claimed anew`);
    this.#lost.abort();
  }

  #explain(end: PullEnd | null): void {
    if (end === null) return;
    const { logger } = this.#options.options;
    const { subject, durable } = this.#options;
    if (end.reason === "error") throw end.error;
    if (end.reason === "stalled") throw new nats.TimeoutError();
    if (end.reason === "standstill") {
      logger.warn({ subject, durable }, `The NATS durable "${durable}" delivers nothing although there are messages`);
    }
    logger.debug({ subject, durable, reason: end.reason }, "Opening the NATS durable anew");
  }

  /** Lets the read go on where trying again can help. @throws ReplicatorError otherwise */
  #judge(error: unknown): ReplicatorError | null {
    const { link, options, subject } = this.#options;
    if (apiCode(error) === NOT_FOUND.stream) return null; // the next round sees whether it is back
    const failure = natsError(`read "${subject}"`, error);
    if (failure.retry === "never") throw failure;
    options.logger.debug({ code: failure.code, subject }, failure.message);
    if (error instanceof nats.TimeoutError) link.suspect(`no sign of life while reading "${subject}"`);
    return failure;
  }
}
