/** Starts the publisher role's loops: cutter, one sender per channel, release. */
import { runCutter } from "../capture/cutter.ts";
import { type Channel, channelLabel } from "../core/channel.ts";
import type { SourceStore } from "../core/source_store.ts";
import { Wake } from "../core/wake.ts";
import { newSenderStats, runPublisher } from "../publish/publisher.ts";
import { layOutChannels } from "./channel_layout.ts";
import type { Engine } from "./engine.ts";
import { releaseLoop } from "./release_loop.ts";

/** A lease outlives its holder by so much at most; with kill -9 this bounds the pause of a takeover. */
const LEASE_MS = 6_000;
const SEND_DEADLINE_MS = 3_000;
/** Room for chunk and frame headers below the message limit. */
export const LARGEST_FRAME = 880_000;

/**
 * @param sends which of this contour's channels this process sends; the layout has them all
 * @throws ReplicatorError when a configured table is not under replication
 */
export async function publisherRole(
  engine: Engine,
  store: SourceStore,
  epoch: number,
  signal: AbortSignal,
  sends: (channel: Channel) => boolean = () => true,
): Promise<Promise<void>[]> {
  const { config, broker, status, metrics, logger, clock, owner } = engine;
  const { configured, departed } = await layOutChannels(engine, store);
  const channels = [...configured, ...departed].filter(sends);
  const senders = channels.map((channel) => ({
    channel,
    stats: newSenderStats(),
    wake: new Wake(),
    health: status.health(`publisher of ${channelLabel(channel)}`),
  }));
  const cutterWake = new Wake();
  let lastCut = 0;
  const report = () => {
    for (const { channel, stats, health } of senders) {
      status.channel({
        channel: channelLabel(channel),
        direction: "out",
        kind: channel.kind,
        partition: null,
        epoch,
        sequence: null,
        cut_no: stats.confirmedCut,
        messages: stats.messages,
        changes: stats.changes,
        active: stats.owner,
        trouble: health.trouble,
      });
    }
  };
  report();
  const shared = { store, owner, leaseMs: LEASE_MS, pollIntervalMs: config.publisher.poll_interval, clock, logger };
  const cutter = runCutter(
    {
      ...shared,
      frameBytes: Math.min(config.publisher.frame_size, LARGEST_FRAME),
      health: status.health("cutter"),
      wake: cutterWake,
      onCut: (cut) => {
        lastCut = cut.cutNo;
        metrics.cuts.inc();
        for (const { wake } of senders) wake.ring();
      },
      elsewhere: () =>
        senders
          .filter(({ channel, stats }) => !stats.owner && configured.includes(channel))
          .map(({ channel }) => channel),
      othersSend: channels.length < configured.length + departed.length,
      outstanding: () => {
        const owned = senders.filter(({ stats }) => stats.owner);
        return owned.length === 0 ? 0 : lastCut - Math.min(...owned.map(({ stats }) => stats.confirmedCut));
      },
    },
    signal,
  );
  const publisher = runPublisher(
    {
      ...shared,
      broker,
      senders,
      sendDeadlineMs: SEND_DEADLINE_MS,
      batchSize: config.publisher.batch_size,
      onOwner: report,
      onSent: (channel, changes) => {
        metrics.publishedChanges.inc({ channel: channel.name }, changes);
        if (changes > 0) status.moved(changes, null);
        report();
        cutterWake.ring();
      },
      onMessages: (channel, { messages, bytes, failures }) => {
        const labels = { channel: channel.name };
        metrics.publishedMessages.inc(labels, messages);
        metrics.publishedBytes.inc(labels, bytes);
        metrics.publishFailures.inc(labels, failures);
      },
    },
    signal,
  );
  const release = releaseLoop(engine, store, signal);
  return [cutter, publisher, release];
}
