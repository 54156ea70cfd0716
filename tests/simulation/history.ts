/**
 * One history: contours, processes and sessions under one clock, faults while they write, then a healed world that must
 * come to rest. Everything is decided by the seed and the narrowing.
 */
import { DEFAULT_CHANNEL } from "../../src/core/channel.ts";
import { CHECKS } from "./checks/all.ts";
import type { Observer } from "./checks/check.ts";
import { TOPIC } from "./database/schema.ts";
import type { Applied } from "./database/target.ts";
import { withVirtualTime } from "./kernel/globals.ts";
import { Random } from "./kernel/random.ts";
import { Scheduler } from "./kernel/scheduler.ts";
import type { Planted } from "./planted/planted.ts";
import { type Narrowing, type Profile, profileOf } from "./profile.ts";
import { counting, Tally } from "./tally.ts";
import { World } from "./world.ts";

export interface HistoryOptions {
  readonly seed: number;
  readonly narrowing?: Narrowing;
  readonly planted?: Planted;
  /** Keeps the trace. */
  readonly traced?: boolean;
}

export interface Failure {
  /** Name of the check. */
  readonly check: string;
  readonly found: string;
}

export interface Outcome {
  readonly failure: Failure | null;
  readonly profile: Profile;
  readonly trace: readonly string[];
  /** Events, virtual milliseconds, captured changes and how many of them apply wrote itself. */
  readonly steps: number;
  readonly milliseconds: number;
  readonly changes: number;
  readonly overrides: number;
  readonly tally: Tally;
}

/** After healing all must be at rest within this, in virtual ms. */
const REST_MS = 120_000;
/** Overrides after healing; more is a quarrel without end. */
const MOST_OVERRIDES = 400;
const LOOK_EVERY_MS = 250;
const LONGEST_LINE = 4_000;

export function runHistory({ seed, narrowing, planted = {}, traced = false }: HistoryOptions): Outcome {
  const profile = { ...profileOf(seed, narrowing), ...planted.profile, ...narrowing };
  const scheduler = new Scheduler();
  const trace: string[] = [];
  const write = (line: () => string) => {
    if (traced) trace.push(`${scheduler.now.toFixed(1).padStart(9)} ${line().slice(0, LONGEST_LINE)}`);
  };
  let failure: Failure | null = null;
  const fail = (check: string, found: string) => {
    failure ??= { check, found };
    write(() => `FAILED ${check}: ${found}`);
  };
  const observers: Observer[] = [];
  const tally = new Tally();
  const world = new World({ seed, profile, planted, scheduler, observers, tally, fail, trace: write });
  const positions = new Map<string, number>();
  const checks = CHECKS.map((check) => check.observe(world.watched, (found) => fail(check.name, found)));
  observers.push(
    {
      applied: ({ contour, ledger, last }: Applied) =>
        void positions.set(`${contour} ${ledger.source}/${ledger.channel}[${ledger.partition}]`, last.sequence),
    },
    ...checks,
    counting(tally, checks),
  );
  withVirtualTime(scheduler, new Random(seed, "backoff"), traced, () => {
    world.start();
    let healedAt: number | null = null;
    let overridesBefore = 0;
    let lookAt = 0;
    while (failure === null && scheduler.step()) {
      if (scheduler.now < lookAt) continue;
      lookAt = scheduler.now + LOOK_EVERY_MS;
      if (healedAt === null) {
        if (!world.isLoaded) continue;
        world.heal();
        healedAt = scheduler.now;
        overridesBefore = world.overrides;
        continue;
      }
      const restless = world.restless ?? unread(world, profile, positions) ?? world.open;
      if (restless === null) {
        for (const observer of observers) if (failure === null) observer.ended?.();
        break;
      }
      const late = scheduler.now - healedAt > REST_MS;
      const quarrel = world.overrides - overridesBefore > MOST_OVERRIDES;
      if (late || quarrel) fail(quarrel || world.captured === "lately" ? "quiet" : "heals", restless);
    }
  });
  const { changes, overrides } = world;
  const { steps, now: milliseconds } = scheduler;
  tally.add("histories");
  tally.add(`${profile.contours.length} contours`);
  tally.add(profile.tempo < 1 ? "short" : "long");
  tally.add("events", steps);
  tally.add("virtual seconds", milliseconds / 1_000);
  tally.add("captured by apply (law 3, second looks)", overrides);
  for (const { db } of world.sites) for (const { operation } of db.queue.all) tally.add(operation);
  if (failure) tally.add("failed");
  return { failure, profile, trace, steps, milliseconds, changes, overrides, tally };
}

/** A channel of which a contour has not applied all; null when there is none. */
function unread(world: World, profile: Profile, positions: ReadonlyMap<string, number>): string | null {
  for (const { db, source } of world.sites) {
    for (const [channel, partitions] of [
      [DEFAULT_CHANNEL, 1],
      [TOPIC, profile.partitions],
    ] as const) {
      const { sequences } = source.state(channel, partitions);
      for (const contour of profile.contours) {
        for (const [partition, sequence] of sequences.entries()) {
          const name = `${db.contour}/${channel}[${partition}]`;
          const applied = positions.get(`${contour} ${name}`) ?? 0;
          if (contour !== db.contour && applied < sequence)
            return `${contour} has read ${name} up to ${applied} of ${sequence}`;
        }
      }
    }
  }
  return null;
}
