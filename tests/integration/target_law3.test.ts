/**
 * Law 3 as src/core/arbitration.ts says it and as PostgreSQL does it must be one thing: what becomes of the row that
 * comes, which rows are left, and which captured changes with which stamps override others. `PROPERTY_RUNS=10000` makes so
 * many cases, `PROPERTY_SEED` those of a failure.
 */
import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { restampAbove } from "../../src/core/arbitration.ts";
import type { ConflictPolicy, Stamp } from "../../src/core/stamp.ts";
import {
  CONTOUR,
  caseOf,
  ddlOf,
  expected,
  FUTURE,
  floorLine,
  floorOf,
  incoming,
  seeds,
  stampText,
} from "../support/law3_cases.ts";
import { found, usersOf } from "../support/law3_found.ts";
import { describeWith } from "../support/needs.ts";
import { chunk, MODES, openTarget, type Target } from "../support/target_fixture.ts";

const { PROPERTY_RUNS, PROPERTY_SEED } = process.env;
/** For each mode of the session and each policy. */
const CASES = Math.max(1, Math.ceil(Number(PROPERTY_RUNS || 600) / 4));
const OUTCOMES = ["applied", "beaten", "overridden", "parked"] as const;
const SEED = Number(PROPERTY_SEED || Date.now() % 2 ** 31);

describeWith("postgres", "Target store, law 3 in SQL and in TypeScript", () => {
  const opened: Target[] = [];
  afterAll(async () => {
    for (const target of opened) await target.close();
  });

  for (const mode of MODES) {
    for (const policy of ["version", "latest"] as const satisfies ConflictPolicy[]) {
      test(`decisions, rows and overrides are equal in ${mode} mode, compared by ${policy}`, async () => {
        const target = await openTarget(ddlOf(policy), mode);
        opened.push(target);
        const cases = fc.sample(caseOf, { numRuns: CASES, seed: SEED });
        const began = await now(target);
        await target.feed.apply(chunk("users", "TRUNCATE", [floorLine(floorOf(policy))]));
        for (const some of seeds(cases, policy)) await target.feed.apply(some);
        expect(await target.column("SELECT error_code || ' ' || data FROM inbox")).toEqual([]);
        await target.db.execute("DELETE FROM replicator.queue");
        const outcomes: string[] = [];
        for (const [n, one] of cases.entries()) {
          const outcome = await target.feed.apply(incoming(n, one));
          outcomes.push(OUTCOMES.filter((name) => outcome[name] > 0).join());
        }
        const ended = await now(target);
        const isClock = (at: bigint) => at >= began && at <= ended;
        const really = await found(target, isClock);
        for (const [n, one] of cases.entries()) {
          const about = { seed: SEED, n, case: one };
          const is: object = { outcome: outcomes[n], ...really(n) };
          expect({ ...about, ...is }).toEqual({ ...about, ...expected(n, one, policy, began) });
        }
        await truncates(target, policy);
      });
    }
  }
});

/** A TRUNCATE over what the cases have left: rows below it go, those to which others refer are lifted above it. */
async function truncates(target: Target, policy: ConflictPolicy): Promise<void> {
  const floor: Stamp = { version: 3n, updatedAt: FUTURE, updatedBy: "b" };
  const before = await usersOf(target);
  const clock = await now(target);
  await target.feed.apply(chunk("users", "TRUNCATE", [floorLine(floor)]));
  const ended = await now(target);
  const should = before.flatMap(({ id, stamp, referred }) => {
    const above = restampAbove(stamp, floor, policy, { contour: CONTOUR, clock });
    if (above && !referred) return [];
    return [`${id} ${stampText(above ?? stamp, (at) => at === clock)}`];
  });
  const left = await usersOf(target);
  expect({
    seed: SEED,
    left: left.map(({ id, stamp }) => `${id} ${stampText(stamp, (at) => at >= clock && at <= ended)}`),
  }).toEqual({ seed: SEED, left: should });
  // Few cases may leave rows of one kind only.
  if (before.length < 100) return;
  expect(left.length).toBeLessThan(before.length);
  expect(left.filter(({ stamp }) => stamp.updatedBy === CONTOUR && stamp.updatedAt > FUTURE).length).toBeGreaterThan(0);
}

/** clock_timestamp() in microseconds since 1970. */
async function now({ column }: Target): Promise<bigint> {
  const [microseconds] = await column("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
  return BigInt(microseconds ?? 0);
}
