import { expect, test } from "bun:test";
import { Reach } from "../../../src/consume/reach.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { type Logger, silentLogger } from "../../../src/core/logger.ts";
import { HandClock } from "../../support/hand_clock.ts";

const away = () =>
  new ReplicatorError({ code: "database.unreachable", message: "away", retry: "backoff", fault: "environment" });

function world() {
  const clock = new HandClock();
  const said: string[] = [];
  const logger: Logger = { ...silentLogger, warn: (_, text) => said.push(text), info: (_, text) => said.push(text) };
  const state = { answers: true, pings: 0 };
  const ping = async () => {
    state.pings++;
    if (!state.answers) throw away();
  };
  const reach = new Reach({ store: { ping }, clock, logger });
  const ask = (answer: () => Promise<unknown>) => reach.asking(answer).catch(() => undefined);
  /** Asks every 500 ms, as the loop of a claim does. */
  const fail = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 500) {
      await ask(() => Promise.reject(away()));
      await clock.advance(500);
    }
    await ask(() => Promise.reject(away()));
  };
  return { clock, said, state, reach, ask, fail };
}

test("I8: claims are given up when leases have been unanswered for some seconds, and that is said once", async () => {
  const { reach, said, fail } = world();
  await fail(2_000);
  expect(reach.leaving.aborted).toBe(false);
  await fail(3_000);
  expect(reach.leaving.aborted).toBe(true);
  expect(said.length).toBe(1);
});

test("a lease that another process holds is an answer", async () => {
  const { clock, reach, ask, fail } = world();
  for (let round = 0; round < 10; round++) {
    await fail(1_500);
    await ask(async () => null);
    await clock.advance(500);
  }
  expect(reach.leaving.aborted).toBe(false);
});

test("an answer to one claim counts for the others: a call that was lost before it is no sign", async () => {
  const { clock, reach, ask } = world();
  let lose = (_: Error) => {};
  const lost = ask(() => new Promise((_, reject) => (lose = reject)));
  await clock.advance(1_000);
  await ask(async () => null);
  await clock.advance(2_000);
  lose(away());
  await lost;
  expect(reach.leaving.aborted).toBe(false);
});

test("one call that waits in vain for as long is enough, whether it ever fails or not", async () => {
  const { clock, reach, ask } = world();
  void ask(() => new Promise(() => undefined));
  await clock.advance(2_000);
  expect(reach.leaving.aborted).toBe(false);
  await clock.advance(1_000);
  expect(reach.leaving.aborted).toBe(true);
});

test("claims are asked for again when the database has answered, not before, with growing pauses while it comes and goes", async () => {
  const { clock, reach, state, said, fail } = world();
  const stop = new AbortController();
  const pauses: number[] = [];
  for (let round = 0; round < 6; round++) {
    await fail(3_000);
    state.answers = false;
    let back = false;
    const from = clock.monotonic();
    const returning = Promise.all([reach.back(stop.signal), reach.back(stop.signal)]).then(() => (back = true));
    if (round === 0) {
      await clock.advance(20_000);
      expect(back).toBe(false);
      expect(state.pings).toBeLessThan(60);
    }
    state.answers = true;
    while (!back) await clock.advance(50);
    await returning;
    pauses.push(clock.monotonic() - from);
    expect(reach.leaving.aborted).toBe(false);
  }
  expect(said.length).toBe(12);
  expect(pauses[5] ?? 0).toBeGreaterThan(2_000);
});

test("back() returns at once where nothing was given up, and at the stop", async () => {
  const { reach, state, fail } = world();
  await reach.back(new AbortController().signal);
  expect(state.pings).toBe(0);
  await fail(3_000);
  const stop = new AbortController();
  const returning = reach.back(stop.signal);
  stop.abort();
  await returning;
  expect(reach.leaving.aborted).toBe(true);
});
