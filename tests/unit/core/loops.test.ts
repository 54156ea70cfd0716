import { expect, test } from "bun:test";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { Loops } from "../../../src/core/loop.ts";

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
