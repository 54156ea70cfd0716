import { describe, expect, test } from "bun:test";
import RequestQueue from "kafkajs/src/network/requestQueue/index.js";
import { quietIdleTimers } from "../../../adapters/kafka/idle_timers.ts";

/** The state of a connection's queue as kafkajs 2.2.4 keeps it. */
function queue(pending: readonly unknown[], throttledUntil: number): RequestQueue {
  const state = { pending, throttledUntil, throttleCheckTimeoutId: null, maxInFlightRequests: 0, inflight: new Map() };
  return Object.assign(Object.create(RequestQueue.prototype), state);
}

describe("kafkajs's request queue", () => {
  test("sets no timer while it has nothing to send", () => {
    quietIdleTimers();
    const idle = queue([], -1);
    idle.checkPendingRequests();
    expect(idle.throttleCheckTimeoutId).toBeNull();
  });

  test("looks again when requests wait, throttled or not, with one timer", () => {
    quietIdleTimers();
    for (const throttledUntil of [-1, Date.now() + 60_000]) {
      const busy = queue([{}], throttledUntil);
      busy.checkPendingRequests();
      const timer = busy.throttleCheckTimeoutId;
      expect(timer).not.toBeNull();
      busy.checkPendingRequests();
      expect(busy.throttleCheckTimeoutId).toBe(timer);
      if (timer) clearTimeout(timer);
    }
  });
});
