import { expect, test } from "bun:test";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { type Logger, silentLogger } from "../../../src/core/logger.ts";
import { Loops, runLoop } from "../../../src/core/loop.ts";
import { HandClock } from "../../support/hand_clock.ts";

function waiting(signal: AbortSignal): Promise<void> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}

function failure(): ReplicatorError {
  return new ReplicatorError({ code: "x.failed", message: "Failed", retry: "never", fault: "environment" });
}

test("loops that end by the stop have not failed", async () => {
  const stop = new AbortController();
  const loops = new Loops(stop.signal, () => stop.abort());
  loops.add(waiting(stop.signal), Promise.resolve());
  stop.abort();
  await loops.ended();
});

test("the first failure stops the others and is the one that is told", async () => {
  const stop = new AbortController();
  const loops = new Loops(stop.signal, () => stop.abort());
  const first = failure();
  loops.add(waiting(stop.signal), Promise.reject(first));
  await expect(loops.ended()).rejects.toBe(first);
  expect(stop.signal.aborted).toBe(true);
});

test("a loop that fails while another is still to be started is not forgotten", async () => {
  const stop = new AbortController();
  const loops = new Loops(stop.signal, () => stop.abort());
  loops.add(Promise.reject(failure()));
  await Promise.resolve();
  loops.add(waiting(stop.signal));
  expect(() => loops.throwIfFailed()).toThrow("Failed");
});

test("what is tried again at once is not said, unless it happens again and again: a loop that only seems to move is no secret", async () => {
  const clock = new HandClock();
  const said: string[] = [];
  const logger: Logger = { ...silentLogger, warn: (_, text) => said.push(text) };
  const stop = new AbortController();
  let every = 20_000;
  const health = { name: "a loop", trouble: null, errors: 0, lastError: null };
  const running = runLoop({
    name: "a loop",
    health,
    clock,
    logger,
    signal: stop.signal,
    body: async (moving) => {
      moving();
      await clock.sleep(every, stop.signal);
      throw new ReplicatorError({ code: "lease.lost", message: "Lost it", retry: "now", fault: "environment" });
    },
  });
  await clock.advance(600_000);
  expect(said).toEqual([]);
  every = 100;
  await clock.advance(40_000);
  expect(said.length).toBeGreaterThan(5);
  expect(said[0]).toBe("a loop: Lost it; again and again");
  stop.abort();
  await running;
});
