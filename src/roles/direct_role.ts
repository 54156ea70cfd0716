/**
 * Direct mode: publisher and consumer in one process with no broker between them. The cutter takes cuts and release empties
 * the queue as ever; instead of senders the consumer's claims read the queue, and confirm what the target has.
 */
import { runCutter } from "../capture/cutter.ts";
import { type Channel, channelLabel } from "../core/channel.ts";
import type { Logger } from "../core/logger.ts";
import type { SourceStore } from "../core/source_store.ts";
import type { TargetStore } from "../core/target_store.ts";
import { Wake } from "../core/wake.ts";
import { QueueLog, type QueueLogEvents } from "../direct/queue_log.ts";
import { layOutChannels } from "./channel_layout.ts";
import { consumerRole } from "./consumer_role.ts";
import type { Engine } from "./engine.ts";
import { LARGEST_FRAME } from "./publisher_role.ts";
import { releaseLoop } from "./release_loop.ts";

/** As in the target: with kill -9 this bounds the pause until the next process goes on. */
const LEASE_MS = 3_000;

export interface DirectStores {
  readonly source: SourceStore;
  readonly epoch: number;
  readonly target: TargetStore;
  /** For what is said about the target: its outages are told of apart. */
  readonly targetLogger: Logger;
}

/** @throws ReplicatorError when a configured table is not under replication at the source */
export async function directRole(
  engine: Omit<Engine, "broker">,
  { source, epoch, target, targetLogger }: DirectStores,
  signal: AbortSignal,
): Promise<Promise<void>[]> {
  const { config, status, metrics, logger, clock, owner } = engine;
  const { configured, departed } = await layOutChannels(engine, source);
  // An earlier broker may have had partitions; here one reader does.
  const channels = new Readings([...configured, ...departed.map((channel) => ({ ...channel, partitions: 1 }))]);
  const cutterWake = new Wake();
  const health = (channel: Channel) => status.health(`publisher of ${channelLabel(channel)}`);
  const report = ({ channel, confirmedCut, reading, messages, changes }: Reading) =>
    status.channel({
      channel: channelLabel(channel),
      direction: "out",
      kind: channel.kind,
      partition: null,
      epoch,
      sequence: null,
      cut_no: confirmedCut,
      messages,
      changes,
      active: reading,
      trouble: health(channel).trouble,
    });
  for (const one of channels.all) report(one);
  const on: QueueLogEvents = {
    onReading: (channel, confirmedCut) => {
      const one = channels.of(channel);
      one.reading = confirmedCut !== null;
      if (confirmedCut !== null) one.confirmedCut = one.readCut = confirmedCut;
      report(one);
    },
    onRead: (channel, { cutNo }) => {
      channels.of(channel).readCut = cutNo;
      cutterWake.ring();
    },
    onConfirmed: (channel, { cutNo }, changes) => {
      const one = channels.of(channel);
      one.confirmedCut = cutNo;
      one.changes += changes;
      metrics.publishedChanges.inc({ channel: channel.name }, changes);
      report(one);
    },
    onMessage: (channel, bytes) => {
      channels.of(channel).messages++;
      metrics.publishedMessages.inc({ channel: channel.name });
      metrics.publishedBytes.inc({ channel: channel.name }, bytes);
    },
  };
  const shared = {
    store: source,
    owner,
    leaseMs: LEASE_MS,
    pollIntervalMs: config.publisher.poll_interval,
    clock,
    logger,
  };
  const log = new QueueLog({ ...shared, wake: (channel) => channels.of(channel).wake, health, on });
  let lastCut = 0;
  const cutter = runCutter(
    {
      ...shared,
      frameBytes: Math.min(config.publisher.frame_size, LARGEST_FRAME),
      health: status.health("cutter"),
      wake: cutterWake,
      onCut: ({ cutNo }) => {
        lastCut = cutNo;
        metrics.cuts.inc();
        for (const { wake } of channels.all) wake.ring();
      },
      elsewhere: () => configured.filter((channel) => !channels.of(channel).reading),
      outstanding: () => lastCut - channels.slowestRead(lastCut),
    },
    signal,
  );
  const release = releaseLoop(engine, source, signal);
  const consumer = consumerRole({ ...engine, logger: targetLogger, broker: log }, target, signal, channels.list);
  return [cutter, release, consumer];
}

/** What this process does with a channel. */
interface Reading {
  readonly channel: Channel;
  readonly wake: Wake;
  reading: boolean;
  readCut: number;
  confirmedCut: number;
  messages: number;
  /** In confirmed cuts. */
  changes: number;
}

class Readings {
  readonly all: readonly Reading[];
  readonly #byName: ReadonlyMap<string, Reading>;

  constructor(channels: readonly Channel[]) {
    const start = { reading: false, readCut: 0, confirmedCut: 0, messages: 0, changes: 0 };
    this.all = channels.map((channel) => ({ channel, wake: new Wake(), ...start }));
    this.#byName = new Map(this.all.map((one) => [one.channel.name, one]));
  }

  get list(): readonly Channel[] {
    return this.all.map(({ channel }) => channel);
  }

  of({ name }: Channel): Reading {
    const one = this.#byName.get(name);
    if (!one) throw new RangeError(`No channel "${name}" is laid out`);
    return one;
  }

  /** The last cut that all channels read here have been read to; `otherwise` while none is. */
  slowestRead(otherwise: number): number {
    return Math.min(otherwise, ...this.all.filter(({ reading }) => reading).map(({ readCut }) => readCut));
  }
}
