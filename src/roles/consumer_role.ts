/** Starts the consumer role: every channel of the contours it accepts. */
import { channelsOf } from "../config/channels.ts";
import { runConsumer } from "../consume/consumer.ts";
import { type Channel, channelLabel } from "../core/channel.ts";
import type { ChannelStatus } from "../core/status.ts";
import type { ConflictCount, TargetStore } from "../core/target_store.ts";
import type { ConsumerEngine } from "./engine.ts";

const LEASE_MS = 3_000;

/** `channels`: default those of the contours it accepts. */
export function consumerRole(
  engine: ConsumerEngine,
  store: TargetStore,
  signal: AbortSignal,
  channels: readonly Channel[] = engine.config.consumer.from.flatMap((contour) => channelsOf(engine.config, contour)),
): Promise<void> {
  const { config, broker, status, metrics, logger, clock, owner } = engine;
  const update = (channel: Channel, partition: number, change: Partial<ChannelStatus>) => {
    const label = channelLabel(channel);
    const before = status.channelOf("in", label, partition) ?? {
      channel: label,
      direction: "in",
      kind: channel.kind,
      partition,
      epoch: null,
      sequence: null,
      cut_no: null,
      messages: 0,
      changes: 0,
      active: false,
      trouble: null,
    };
    status.channel({ ...before, ...change });
  };
  for (const channel of channels) {
    for (let partition = 0; partition < channel.partitions; partition++) update(channel, partition, {});
  }
  const onConflicts = (conflicts: readonly ConflictCount[]) => {
    for (const { table, policy, winner, lines } of conflicts) metrics.conflicts.inc({ table, policy, winner }, lines);
  };
  return runConsumer(
    {
      onConflicts,
      broker,
      store,
      channels,
      group: config.consumer.group,
      owner,
      leaseMs: LEASE_MS,
      batchSize: config.consumer.batch_size,
      clock,
      logger,
      health: (name) => status.health(name),
      onMessage: (kind) => metrics.receivedMessages.inc({ kind }),
      onReading: (feed, partition, active) => {
        for (const channel of feed.channels) if (partition < channel.partitions) update(channel, partition, { active });
      },
      onCommit: (report) => {
        const { key, position, changes, applied, beaten, overridden, parked, milliseconds, capturedAt } = report;
        const labels = { source: key.source, channel: key.channel };
        metrics.appliedChanges.inc(labels, applied);
        metrics.beatenChanges.inc(labels, beaten);
        metrics.overriddenChanges.inc(labels, overridden);
        metrics.parkedTotal.inc(labels, parked);
        onConflicts(report.conflicts ?? []);
        metrics.tornTransactions.inc(labels, report.torn ?? 0);
        metrics.applyTransactions.inc(labels);
        metrics.applySeconds.observe(milliseconds / 1_000);
        const lag = capturedAt === null ? null : (clock.now() - Date.parse(capturedAt)) / 1_000;
        status.moved(changes, lag);
        const channel = channels.find(({ contour, name }) => contour === key.source && name === key.channel);
        if (!channel) return;
        const before = status.channelOf("in", channelLabel(channel), key.partition);
        update(channel, key.partition, {
          epoch: position.epoch,
          sequence: position.sequence,
          cut_no: position.cutNo,
          messages: (before?.messages ?? 0) + 1,
          changes: (before?.changes ?? 0) + changes,
        });
      },
    },
    signal,
  );
}
