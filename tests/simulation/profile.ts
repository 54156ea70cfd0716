/**
 * What kind of history a seed makes: how many contours, what they write, what goes wrong. Each history has a few things
 * only, each more often than in life: together they would hide each other.
 */
import type { ConflictPolicy } from "../../src/core/stamp.ts";
import type { BrokerHazards } from "./broker/port.ts";
import { TABLES } from "./database/schema.ts";
import type { Hazards } from "./kernel/network.ts";
import { Random } from "./kernel/random.ts";
import { type OperationName, THEMES } from "./workload/operations.ts";

export interface Chaos {
  readonly kills: number;
  readonly stops: number;
  readonly freezes: number;
  readonly brokerOutages: number;
  readonly databaseOutages: number;
  readonly clockSteps: number;
}

export interface Profile {
  readonly contours: readonly string[];
  /** Processes at each contour; more than one: they compete for leases. */
  readonly hosts: number;
  /** Only the first contour writes: nothing can conflict, so every state of the targets is one the source had. */
  readonly oneWriter: boolean;
  readonly sessions: number;
  /** Transactions of each session. */
  readonly transactions: number;
  /** Longest pause between them. */
  readonly pauseMs: number;
  /** Share of operations after which a transaction stays open for long: it began first and commits last. */
  readonly lingering: number;
  /** Keys of each table. */
  readonly keys: number;
  readonly operations: readonly (readonly [number, OperationName])[];
  readonly policies: Readonly<Record<string, ConflictPolicy>>;
  /** Rows that are there before setup, all of one stamp: none, the same at all contours, or of other contents at each. */
  readonly oldRows: "none" | "same" | "different";
  /** Share of transactions under REPEATABLE READ. */
  readonly repeatableRead: number;
  readonly partitions: number;
  readonly sharedTopics: boolean;
  readonly deduplicates: boolean;
  readonly dropsAcknowledged: boolean;
  readonly frameBytes: number;
  readonly sendBatch: number;
  readonly applyBatch: number;
  readonly pollIntervalMs: number;
  readonly database: Hazards;
  readonly broker: BrokerHazards;
  readonly chaos: Chaos;
  /** Longest way of a message from the broker to a reader, in ms: the longer, the more the contours write at cross purposes. */
  readonly lagMs: number;
  /** How far the contours' clocks are apart at most, in ms. */
  readonly skewMs: number;
  /** Factor of how long what goes wrong lasts, and of how long a transaction stays open: 1 is long against every lease. */
  readonly tempo: number;
}

/** What a history can be narrowed to, when it is shrunk or when a fault needs certain conditions. */
export type Narrowing = Partial<Profile>;

const CONTOURS = ["a", "b", "c", "d"];
/** Share of histories with transactions and rows of many messages. */
const LARGE = 0.004;
/** Share of short histories. */
const SHORT = 0.7;

export function profileOf(seed: number, narrowing: Narrowing = {}): Profile {
  const long = longProfileOf(seed);
  // A stream of its own: the long histories are what they were without the short ones.
  const isShort = new Random(seed, "size").chance(SHORT);
  return { ...long, ...(isShort && short(long)), ...narrowing };
}

export function longProfileOf(seed: number): Profile {
  const random = new Random(seed, "profile");
  const rate = (share: number, most: number) => (random.chance(share) ? random.between(0.002, most) : 0);
  const times = (share: number, most: number) => (random.chance(share) ? random.whole(1, most) : 0);
  const contours = CONTOURS.slice(
    0,
    random.weighted([
      [5, 2],
      [4, 3],
      [1, 4],
    ]),
  );
  const hazards = () => ({
    late: rate(0.5, 0.06),
    refused: rate(0.5, 0.06),
    lost: rate(0.5, 0.06),
    dies: rate(0.4, 0.01),
  });
  const oneWriter = random.chance(0.2);
  return {
    contours,
    hosts: random.chance(0.35) ? 2 : 1,
    oneWriter,
    sessions: random.whole(1, 3),
    transactions: random.whole(2, 10),
    pauseMs: random.pick([20, 200, 1_000]),
    lingering: random.pick([0.02, 0.1, 0.3]),
    keys: random.whole(1, 5),
    operations: swarm(random),
    policies: Object.fromEntries(TABLES.map(({ name }) => [name, random.chance(0.6) ? "version" : "latest"])),
    oldRows: oneWriter ? "none" : random.pick(["none", "same", "different"]),
    repeatableRead: !oneWriter && random.chance(0.3) ? random.between(0.1, 0.6) : 0,
    partitions: random.whole(1, 2),
    sharedTopics: random.chance(0.3),
    deduplicates: random.chance(0.3),
    dropsAcknowledged: random.chance(0.5),
    frameBytes: random.pick([600, 1_000, 2_000, 20_000]),
    sendBatch: random.pick([1, 2, 5, 500]),
    applyBatch: random.pick([1, 2, 5, 1_000]),
    pollIntervalMs: random.pick([300, 1_000, 2_000]),
    database: hazards(),
    broker: { ...hazards(), duplicated: rate(0.5, 0.3), unclaimed: rate(0.3, 0.02) },
    chaos: {
      kills: times(0.5, 4),
      stops: times(0.3, 2),
      freezes: times(0.3, 2),
      brokerOutages: times(0.3, 2),
      databaseOutages: times(0.2, 2),
      clockSteps: times(0.3, 4),
    },
    lagMs: random.pick([1, 60, 600]),
    skewMs: random.chance(0.5) ? random.between(0, 2_000) : 0,
    tempo: 1,
  };
}

/**
 * The same in small, for half the time: two contours of one process each that write fast, and what goes wrong is over
 * before a lease runs out. Most planted faults show as often as in a long history (docs/planted_faults.md); what needs
 * leases, rivals or a third contour is left to the long ones.
 */
function short({ contours, sessions, chaos }: Profile): Narrowing {
  const once = (times: number) => Math.min(times, 1);
  return {
    contours: contours.slice(0, 2),
    hosts: 1,
    sessions: Math.max(sessions, 2),
    pauseMs: 20,
    chaos: {
      kills: once(chaos.kills),
      stops: once(chaos.stops),
      freezes: once(chaos.freezes),
      brokerOutages: once(chaos.brokerOutages),
      databaseOutages: once(chaos.databaseOutages),
      clockSteps: once(chaos.clockSteps),
    },
    tempo: 0.1,
  };
}

/** A few of the themes, with all or some of their operations, by weights of their own (swarm testing). */
function swarm(random: Random): (readonly [number, OperationName])[] {
  // Constraints between contours are met less often than keys: their themes count twice.
  const { large, ...others } = THEMES;
  if (random.chance(LARGE)) return [...large, ...others.items].map((name) => [1, name] as const);
  const themes = [...Object.values(others), THEMES.users, THEMES.families];
  const count = random.weighted([
    [5, 1],
    [3, 2],
    [1, themes.length],
  ]);
  const chosen = new Set<OperationName>();
  while (chosen.size === 0) {
    for (let n = 0; n < count; n++) for (const name of random.pick(themes)) if (random.chance(0.8)) chosen.add(name);
  }
  return [...chosen].map((name) => [random.between(0.2, 1), name] as const);
}
