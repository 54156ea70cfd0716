/**
 * What stands in for the broker in direct mode: the source's queue, read as the log a consumer reads. A recorded cut gives
 * the same messages whenever it is read (I13), so nothing has to be kept between the two databases: a reading begins after
 * the last cut that is confirmed, and a cut is confirmed when the target has it. Memory is bounded whatever the size of a
 * transaction, and one lease decides who works: whoever holds the partition's in the target takes the channel's at the source.
 */
import type { Broker, Claim, Feed } from "../core/broker.ts";
import { type Channel, channelLabel } from "../core/channel.ts";
import { QueueClaim, type QueueLogOptions } from "./queue_claim.ts";

export type { QueueLogEvents, QueueLogOptions } from "./queue_claim.ts";

/** A partition given back is offered again after this pause, so that one who cannot read it does not spin. */
const OFFER_AGAIN_MS = 200;

export class QueueLog implements Pick<Broker, "feeds" | "claims"> {
  readonly #options: QueueLogOptions;

  constructor(options: QueueLogOptions) {
    this.#options = options;
  }

  /** One for each channel, of one partition. */
  feeds(channels: readonly Channel[]): Feed[] {
    return channels.map((channel) => ({
      name: `direct ${channelLabel(channel)}`,
      partitions: 1,
      channels: [channel],
    }));
  }

  /** The one partition of the feed, again each time it has been given back. Ends when the signal aborts. */
  async *claims(feed: Feed, _group: string, signal: AbortSignal): AsyncGenerator<Claim, void, undefined> {
    const [channel] = feed.channels;
    if (!channel) return;
    while (!signal.aborted) {
      const claim = new QueueClaim({ ...this.#options, feed, channel });
      try {
        yield claim;
        await aborted(AbortSignal.any([signal, claim.lost]));
      } finally {
        await claim.release();
      }
      await this.#options.clock.sleep(OFFER_AGAIN_MS, signal);
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
