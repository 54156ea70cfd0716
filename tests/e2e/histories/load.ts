/** Sessions of a seeded history at one contour: the profile is the simulation's, the database a real one. */
import postgres, { type PostgresError } from "postgres";
import { Random } from "../../simulation/kernel/random.ts";
import type { Profile } from "../../simulation/profile.ts";
import { type Operation, OPERATIONS as SIMULATED } from "../../simulation/workload/operations.ts";
import { OPERATIONS, type Session } from "./operations.ts";

export interface Load {
  /** Transactions ended so far, committed or rolled back. */
  ended(): number;
  /** Rejects with what no session of a history may meet. */
  readonly done: Promise<void>;
}

/** A real database does so many transactions while a simulated one does one. */
export const TIMES = 10;
/** Longest pause of a transaction that stays open, in ms. */
const LONGEST_PAUSE_MS = 400;
/** What a transaction may end with under concurrency: its application would try again, this one goes on with the next. */
const LOST_RACES = ["40001", "40P01"];

export function startLoad(url: string, contour: number, seed: number, profile: Profile): Load {
  let ended = 0;
  const sql = postgres(url, { max: profile.sessions, onnotice: () => undefined });
  const session = async (n: number) => {
    const random = new Random(seed, `session ${contour}.${n}`);
    for (let serial = 1; serial <= TIMES * profile.transactions; serial++) {
      await pause((random.next() ** 3 * profile.pauseMs) / TIMES);
      const name = `${seed}.${contour}.${n}.${serial}`;
      await transact(sql, profile, random, name, contour === 0).catch((error: unknown) => {
        if (error !== ROLLED_BACK && !LOST_RACES.includes((error as PostgresError).code)) throw error;
      });
      ended++;
    }
  };
  const writes = !profile.oneWriter || contour === 0;
  const sessions = writes ? Array.from({ length: profile.sessions }, (_, n) => session(n)) : [];
  const done = Promise.all(sessions)
    .finally(() => sql.end({ timeout: 2 }))
    .then(() => undefined);
  return { ended: () => ended, done };
}

/** The application changed its mind. */
const ROLLED_BACK = new Error("the application rolls back");

async function transact(sql: postgres.Sql, profile: Profile, random: Random, name: string, first: boolean) {
  const isolation = random.chance(profile.repeatableRead) ? "ISOLATION LEVEL REPEATABLE READ" : "";
  let values = 0;
  const fresh = () => `${name}.${++values}`;
  await sql.begin(isolation, async (tx) => {
    for (let left = random.pick([1, 1, 1, 2, 2, 4]); left > 0; left--) {
      const operation = random.weighted(profile.operations);
      const simulated: Operation = SIMULATED[operation];
      const run = OPERATIONS[operation];
      if (run === null || (simulated.onlyFirstContour && !first)) continue;
      // What a constraint refuses is undone alone; the transaction goes on.
      await tx
        .savepoint((point) => run({ tx: point, random, keys: profile.keys, fresh } satisfies Session))
        .catch((error: unknown) => {
          if (!String((error as PostgresError).code).startsWith("23")) throw error;
        });
      await pause(random.chance(profile.lingering) ? random.next() ** 2 * LONGEST_PAUSE_MS : 0);
    }
    if (random.chance(0.08)) throw ROLLED_BACK;
  });
}

/** An application's own time; nothing waits for it to be over. */
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
