/** Makes a failing history smaller: takes things away one by one, keeps what still fails by the same check. */
import { type Outcome, runHistory } from "./history.ts";
import { NO_HAZARDS } from "./kernel/network.ts";
import type { Planted } from "./planted/planted.ts";
import type { Narrowing, Profile } from "./profile.ts";

export interface Shrunk {
  readonly narrowing: Narrowing;
  readonly outcome: Outcome;
}

/** Histories tried at most. */
const MOST = 400;

/** What might be taken away, the larger things first. */
function candidates(profile: Profile): Narrowing[] {
  const { broker, chaos, contours, operations, policies, transactions } = profile;
  const calm = { late: 0, refused: 0, lost: 0, dies: 0 };
  const none = { kills: 0, stops: 0, freezes: 0, brokerOutages: 0, databaseOutages: 0, clockSteps: 0 };
  const simpler: Narrowing[] = [
    { chaos: none },
    { database: NO_HAZARDS },
    { broker: { ...calm, duplicated: 0, unclaimed: 0 } },
    { hosts: 1 },
    { sessions: 1 },
    { contours: contours.slice(0, 2) },
    { oldRows: "none" },
    { repeatableRead: 0 },
    { skewMs: 0 },
    { sharedTopics: false, deduplicates: false, dropsAcknowledged: false, partitions: 1 },
    { sendBatch: 500, applyBatch: 1_000, frameBytes: 20_000 },
    { policies: Object.fromEntries(Object.keys(policies).map((table) => [table, "version" as const])) },
    { lagMs: 1 },
    { transactions: Math.ceil(transactions / 2) },
    { transactions: transactions - 1 },
    ...operations.map((left) => ({ operations: operations.filter((operation) => operation !== left) })),
  ];
  for (const name of keys(chaos)) simpler.push({ chaos: { ...chaos, [name]: 0 } });
  for (const name of keys(broker)) simpler.push({ broker: { ...broker, [name]: 0 } });
  for (const name of keys(profile.database)) simpler.push({ database: { ...profile.database, [name]: 0 } });
  return simpler;
}

/** @param failing its outcome: what is kept must fail by the same check */
export function shrink(seed: number, failing: Outcome, planted: Planted = {}): Shrunk {
  let best: Shrunk = { narrowing: {}, outcome: failing };
  let tried = 0;
  for (let progress = true; progress && tried < MOST; ) {
    progress = false;
    for (const change of candidates(best.outcome.profile)) {
      if (!changes(best.outcome.profile, change) || isEmpty(change) || tried++ >= MOST) continue;
      const narrowing = { ...best.narrowing, ...change };
      const outcome = runHistory({ seed, narrowing, planted });
      if (outcome.failure?.check !== failing.failure?.check) continue;
      best = { narrowing, outcome };
      progress = true;
    }
  }
  return { ...best, outcome: runHistory({ seed, narrowing: best.narrowing, planted, traced: true }) };
}

function changes(profile: Profile, change: Narrowing): boolean {
  return keys(change).some((name) => JSON.stringify(profile[name]) !== JSON.stringify(change[name]));
}

function isEmpty({ operations, transactions }: Narrowing): boolean {
  return operations?.length === 0 || transactions === 0;
}

function keys<T extends object>(value: T): (keyof T & string)[] {
  return Object.keys(value).filter((name): name is keyof T & string => name in value);
}
