/** The claims of a feed: every partition to every claimant, again after each loss (the lease in the target decides who reads). */
import { Backoff } from "../../src/core/backoff.ts";
import type { Claim, Feed } from "../../src/core/broker.ts";
import { isAbort } from "../../src/core/errors.ts";
import { Mailbox } from "../../src/core/mailbox.ts";
import { NatsClaim } from "./claim.ts";
import type { NatsLink } from "./connection.ts";
import { natsError } from "./errors.ts";
import { durableName, feedContour, partitionSubject, streamName } from "./names.ts";
import { DEFAULT_STREAM, type NatsOptions } from "./options.ts";
import type { SourceLogs } from "./source_log.ts";

/** A lost or released partition is offered again after this pause, so that one who cannot read it does not spin. */
const OFFER_AGAIN_MS = 200;

export interface ClaimsOptions {
  readonly link: NatsLink;
  readonly options: NatsOptions;
  readonly feed: Feed;
  readonly group: string;
  readonly logs: SourceLogs;
  /** The claims that live at this moment. */
  readonly live: Set<NatsClaim>;
}

/** @throws ReplicatorError when waiting cannot help; ends quietly by the signal and when the broker closes */
export async function* claimPartitions(
  request: ClaimsOptions,
  signal: AbortSignal,
): AsyncGenerator<Claim, void, undefined> {
  const { link, options, feed, group, logs, live } = request;
  const ended = new AbortController();
  const stop = AbortSignal.any([signal, link.closing, ended.signal]);
  const stream = streamName(options.stream ?? DEFAULT_STREAM, feedContour(feed));
  const offered = new Mailbox<Claim>();
  const offer = async (partition: number) => {
    await streamThere(request, stream, stop);
    if (stop.aborted) return;
    const subject = partitionSubject(feed.name, feed.partitions, partition);
    const claim = new NatsClaim({
      link,
      options,
      logs,
      feed,
      partition,
      subject,
      stream,
      durable: durableName(group, subject),
      stop,
    });
    live.add(claim);
    const again = () => {
      live.delete(claim);
      if (!stop.aborted)
        options.clock
          .sleep(OFFER_AGAIN_MS, stop)
          .then(() => offer(partition))
          .catch((error) => offered.fail(error));
    };
    claim.lost.addEventListener("abort", again, { once: true });
    offered.put(claim);
  };
  try {
    for (let partition = 0; partition < feed.partitions; partition++) {
      offer(partition).catch((error) => offered.fail(error));
    }
    yield* offered.values(stop);
  } finally {
    ended.abort();
  }
}

/** Waits until the stream exists: a peer that has not started yet is normal, and worth one line in the log. */
async function streamThere({ logs, options, feed }: ClaimsOptions, stream: string, stop: AbortSignal): Promise<void> {
  const backoff = new Backoff({ firstMs: 50, maxMs: 1_000 });
  while (!stop.aborted) {
    try {
      if (await logs.find(stream, 1, stop)) return;
      if (backoff.attempts === 0)
        options.logger.info(
          { stream, feed: feed.name },
          "Waiting for the NATS stream of a contour that has not started yet",
        );
    } catch (error) {
      if (stop.aborted || isAbort(error)) return;
      const failure = natsError(`look for the stream "${stream}"`, error);
      if (failure.retry === "never") throw failure;
      options.logger.debug({ code: failure.code, stream }, failure.message);
    }
    await options.clock.sleep(backoff.next(), stop);
  }
}
