/**
 * The publishing side: pipelined publishes with the confirmation of each one awaited on one reply subject.
 *
 * A confirmed message stands in the stream behind its predecessors. Two things can make a confirmation lie about that,
 * both through the server's memory of message ids: a purged stream confirms a resend as a duplicate and stores nothing,
 * and after a failure in the middle of a batch the resent message comes to stand behind those that were stored. Such a
 * duplicate is sent once more under an id of its own; readers drop what they have by its sequence.
 */
import { createInbox, type Msg, type NatsConnection, errors as nats, type Subscription } from "@nats-io/nats-core";
import type { Publisher, SendOutcome } from "../../src/core/broker.ts";
import { type Channel, channelLabel } from "../../src/core/channel.ts";
import { isAbort, type ReplicatorError } from "../../src/core/errors.ts";
import type { Message } from "../../src/core/message.ts";
import type { NatsLink } from "./connection.ts";
import { apiError, closedError, natsError } from "./errors.ts";
import { channelSubject, partitionSubject } from "./names.ts";
import type { NatsOptions } from "./options.ts";
import { noStream, sending, sendTimeout, tooLarge } from "./publish_errors.ts";
import { absent, ConfirmedOrder, type SendJob } from "./publish_order.ts";
import { Pulse } from "./waits.ts";
import { EncodedHeaders } from "./wire.ts";

/** Messages in flight at most; the server takes 10,000 per stream before it refuses. */
const MAX_IN_FLIGHT = 4_000;
/** More in flight does not go faster, and all of it would be sent again after a lost connection. */
const MAX_IN_FLIGHT_BYTES = 8_000_000;

interface Batch {
  readonly channel: Channel;
  /** The first failure that the server or the network caused: nothing is published after it. */
  failure: ReplicatorError | null;
  waiting: number;
}

interface Pending {
  readonly job: SendJob;
  readonly batch: Batch;
  readonly bytes: number;
}

interface PublishAnswer {
  readonly stream?: string;
  readonly seq?: number;
  readonly duplicate?: boolean;
  readonly error?: { readonly code?: number; readonly err_code?: number; readonly description?: string };
}

export class NatsPublisher implements Publisher {
  readonly #link: NatsLink;
  readonly #options: NatsOptions;
  readonly #onNoStream: (channel: Channel) => void;
  readonly #inbox = createInbox();
  readonly #pending = new Map<string, Pending>();
  readonly #settled = new Pulse();
  readonly #order = new ConfirmedOrder();
  readonly #unlisten: () => void;
  #subscribed: { readonly nc: NatsConnection; readonly subscription: Subscription } | null = null;
  #token = 0;
  #bytes = 0;
  #answers = 0;
  #closed = false;

  /** @param onNoStream told when a channel's stream has vanished */
  constructor(link: NatsLink, options: NatsOptions, onNoStream: (channel: Channel) => void) {
    this.#link = link;
    this.#options = options;
    this.#onNoStream = onNoStream;
    this.#unlisten = link.listen((event) => {
      if (event.type === "down")
        this.#failAll(
          () => true,
          (job) =>
            natsError(sending(job), new nats.ConnectionError("the connection was lost before the confirmation came")),
        );
      else if (event.type === "error" && event.error instanceof nats.PermissionViolationError) {
        const violation = event.error;
        if (violation.operation !== "publish") return;
        this.#failAll(
          (job) => job.subject === violation.subject,
          (job) => natsError(sending(job), violation),
        );
      }
    });
  }

  async send(channel: Channel, messages: readonly Message[], deadlineMs: number): Promise<readonly SendOutcome[]> {
    const subject = channelSubject(channel);
    const jobs = messages.map(
      (message): SendJob => ({
        subject: partitionSubject(subject, channel.partitions, message.partition),
        message,
        id: message.id,
        result: null,
      }),
    );
    const over = new AbortController();
    const done = new AbortController();
    const expiry = this.#options.clock.sleep(deadlineMs, done.signal).then(() => over.abort());
    const wake = () => this.#settled.wake();
    over.signal.addEventListener("abort", wake);
    try {
      await this.#publish(channel, jobs, over.signal);
      await this.#amend(channel, jobs, over.signal);
    } finally {
      done.abort();
      await expiry;
      over.signal.removeEventListener("abort", wake);
    }
    return jobs.map((job): SendOutcome => {
      if (job.result?.ok) return { ok: true };
      return { ok: false, error: job.result?.error ?? sendTimeout(job) };
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#unlisten();
    this.#failAll(() => true, closedError);
    this.#subscribed?.subscription.unsubscribe();
    this.#subscribed = null;
  }

  /** Sends once more what was confirmed without standing where it must, see the head of the file. */
  async #amend(channel: Channel, jobs: readonly SendJob[], over: AbortSignal): Promise<void> {
    if (this.#order.needsLook(jobs)) {
      try {
        const again = await this.#order.misplaced(jobs, (stream, sequences) =>
          this.#link.api(over, (manager) => absent(manager, stream, sequences)),
        );
        if (again.length > 0) {
          const { logger } = this.#options;
          logger.info(
            { channel: channelLabel(channel), messages: again.length },
            "Sending messages again that NATS confirmed from memory only",
          );
          for (const job of again) {
            job.id = `${job.message.id}:${crypto.randomUUID().slice(0, 8)}`;
            job.result = null;
          }
          await this.#publish(channel, again, over);
        }
      } catch (error) {
        // Whether the duplicates are stored is unknown: unconfirmed, and sent again by the caller.
        for (const job of jobs) {
          if (job.result?.ok && job.result.duplicate) job.result = { ok: false, error: natsError(sending(job), error) };
        }
      }
    }
    this.#order.remember(jobs);
  }

  async #publish(channel: Channel, jobs: readonly SendJob[], over: AbortSignal): Promise<void> {
    const batch: Batch = { channel, failure: null, waiting: 0 };
    const answersBefore = this.#answers;
    for (const job of jobs) {
      const failure = batch.failure ?? (await this.#publishOne(job, batch, over));
      if (failure) {
        // I13: what follows a failure would stand in front of its resend.
        batch.failure ??= failure;
        job.result = { ok: false, error: failure };
      }
    }
    while (batch.waiting > 0 && !over.aborted) await this.#settled.wait();
    if (batch.waiting === 0) return;
    for (const [token, { job, batch: owner }] of [...this.#pending]) {
      if (owner === batch) this.#settle(token, { ok: false, error: sendTimeout(job) });
    }
    if (this.#answers === answersBefore) this.#link.suspect("no confirmation came within the deadline of a send");
  }

  /** The failure, or null when the message was written or its outcome is known already. */
  async #publishOne(job: SendJob, batch: Batch, over: AbortSignal): Promise<ReplicatorError | null> {
    if (this.#closed || this.#link.closed) return closedError();
    let nc = this.#link.current;
    if (!nc) {
      // Messages that were in flight have failed: the rest must not overtake their resend.
      try {
        nc = await this.#link.connection(over);
      } catch (error) {
        if (isAbort(error)) return this.#link.lastError ?? sendTimeout(job);
        return natsError(sending(job), error);
      }
    }
    const headers = new EncodedHeaders(job.message, job.id);
    const bytes = job.message.body.byteLength + headers.encode().byteLength;
    const limit = nc.info?.max_payload ?? Number.MAX_SAFE_INTEGER;
    if (bytes > limit) {
      job.result = { ok: false, error: tooLarge(job, bytes, limit) };
      return null;
    }
    while (this.#pending.size > 0 && (this.#pending.size >= MAX_IN_FLIGHT || this.#bytes + bytes > this.#window())) {
      if (over.aborted || batch.failure) break;
      await this.#settled.wait();
    }
    if (batch.failure) return batch.failure;
    if (over.aborted) return sendTimeout(job);
    if (this.#closed) return closedError();
    if (this.#link.current !== nc) return natsError(sending(job), new nats.ConnectionError("the connection was lost"));
    try {
      this.#subscribe(nc);
      const token = (this.#token++).toString(36);
      nc.publish(job.subject, job.message.body, { reply: `${this.#inbox}.${token}`, headers });
      this.#pending.set(token, { job, batch, bytes });
      this.#bytes += bytes;
      batch.waiting++;
      return null;
    } catch (error) {
      return natsError(sending(job), error);
    }
  }

  #window(): number {
    return Math.min(this.#options.bufferBytes, MAX_IN_FLIGHT_BYTES);
  }

  #subscribe(nc: NatsConnection): void {
    if (this.#subscribed?.nc === nc) return;
    const subscription = nc.subscribe(`${this.#inbox}.*`, {
      callback: (error, msg) => {
        if (error)
          this.#failAll(
            () => true,
            (job) => natsError(sending(job), error),
          );
        else this.#answered(msg);
      },
    });
    this.#subscribed = { nc, subscription };
  }

  #answered(msg: Msg): void {
    this.#answers++;
    const token = msg.subject.slice(this.#inbox.length + 1);
    const pending = this.#pending.get(token);
    if (!pending) return; // its deadline has passed
    const { job, batch } = pending;
    if (msg.data.length === 0) {
      this.#settle(token, { ok: false, error: noStream(job) });
      this.#onNoStream(batch.channel);
      return;
    }
    const answer = msg.json<PublishAnswer>();
    if (answer.error) {
      const { error } = answer;
      this.#settle(token, { ok: false, error: apiError(sending(job), error) });
    } else {
      const { stream = "", seq = 0, duplicate = false } = answer;
      this.#settle(token, { ok: true, stream, sequence: seq, duplicate });
    }
  }

  #settle(token: string, result: NonNullable<SendJob["result"]>): void {
    const pending = this.#pending.get(token);
    if (!pending) return;
    this.#pending.delete(token);
    this.#bytes -= pending.bytes;
    pending.job.result = result;
    pending.batch.waiting--;
    // A message the server finds too large fails alone, as one the client finds too large does.
    if (!result.ok && result.error.code !== "broker.message_too_large") pending.batch.failure ??= result.error;
    this.#settled.wake();
  }

  #failAll(concerned: (job: SendJob) => boolean, error: (job: SendJob) => ReplicatorError): void {
    for (const [token, { job }] of [...this.#pending]) {
      if (concerned(job)) this.#settle(token, { ok: false, error: error(job) });
    }
    this.#settled.wake();
  }
}
