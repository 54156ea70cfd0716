/** The simulation as CI runs it: as many histories as fit into a minute of one core, each of which must hold every check. */
import { describe, expect, test } from "bun:test";
import { runHistory } from "./history.ts";
import { faultNamed } from "./planted/faults.ts";
import type { Narrowing } from "./profile.ts";
import { shrink } from "./shrink.ts";
import { Tally } from "./tally.ts";

/** Seconds of processor time, and by the clock on a machine that others use; histories at least and at most. */
const SECONDS = 60;
const SECONDS_BY_THE_CLOCK = 120;
const LEAST = 300;
const MOST = 5_000;

/** Histories drive promises by themselves: they run from a timer, not from inside a test's promise. */
function apart<T>(work: () => T): Promise<T> {
  return new Promise((resolve, reject) => {
    setTimeout(() => {
      try {
        resolve(work());
      } catch (error) {
        reject(error);
      }
    }, 0);
  });
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000_000;
}

describe("simulation", () => {
  test("a seed decides everything: the same history twice has the same trace", async () => {
    const play = () => apart(() => runHistory({ seed: 3, traced: true }).trace);
    const first = await play();
    expect(first.length).toBeGreaterThan(10);
    expect(await play()).toEqual(first);
  });

  test("the model's world is put back: real time passes after a history", async () => {
    await apart(() => runHistory({ seed: 1 }));
    const began = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(performance.now() - began).toBeGreaterThanOrEqual(4);
  });

  test("a failure is made smaller, and what is printed of it plays it again", async () => {
    const planted = faultNamed("no floor");
    const failing = await apart(() => {
      for (let seed = 1; seed <= LEAST; seed++) {
        const outcome = runHistory({ seed, planted });
        if (outcome.failure) return { seed, outcome };
      }
      throw new Error("The fault was not caught");
    });
    const { narrowing, outcome } = await apart(() => shrink(failing.seed, failing.outcome, planted));
    expect(outcome.failure?.check).toBe(failing.outcome.failure?.check ?? "");
    expect(outcome.changes).toBeLessThanOrEqual(failing.outcome.changes);
    const printed: Narrowing = JSON.parse(JSON.stringify(narrowing));
    const again = await apart(() => runHistory({ seed: failing.seed, narrowing: printed, planted, traced: true }));
    expect(again.trace).toEqual(outcome.trace);
  });

  test("I6: contours under faults come to rest equal, and every check holds on the way", async () => {
    const until = cpuSeconds() + SECONDS;
    const began = performance.now();
    const isOver = () => cpuSeconds() > until || performance.now() - began > SECONDS_BY_THE_CLOCK * 1_000;
    const tally = new Tally();
    let changes = 0;
    for (let seed = 1; seed <= MOST && (seed <= LEAST || !isOver()); seed++) {
      const outcome = await apart(() => runHistory({ seed }));
      tally.take(outcome.tally);
      changes += outcome.changes;
      if (!outcome.failure) continue;
      const { narrowing, outcome: small } = await apart(() => shrink(seed, outcome));
      throw new Error(
        `SEED=${seed} fails "${outcome.failure.check}": ${outcome.failure.found}
shrunk: SEED=${seed} NARROWING='${JSON.stringify(narrowing)}' bun tests/simulation/run.ts
${small.trace.join("\n")}`,
      );
    }
    const seconds = (performance.now() - began) / 1_000;
    process.stdout.write(`${(tally.of("histories") / seconds).toFixed(0)} histories/s. ${tally.report}\n`);
    // A world in which nothing happens would hold every check.
    expect(changes).toBeGreaterThan(10 * tally.of("histories"));
    for (const name of ["overridden", "parked", "crashes", "of them again", "looks of checks"])
      expect(tally.of(name)).toBeGreaterThan(0);
  });
});
