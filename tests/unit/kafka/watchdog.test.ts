import { describe, expect, test } from "bun:test";
import { watchProgress } from "../../../adapters/kafka/watchdog.ts";
import type { Clock } from "../../../src/core/clock.ts";
import { silentLogger } from "../../../src/core/logger.ts";

/** Time passes only by sleeping; `each` runs after every sleep. */
function steppingClock(each: (now: number) => void): Clock {
  let now = 0;
  return {
    monotonic: () => now,
    now: () => now,
    async sleep(ms) {
      now += ms;
      each(now);
    },
  };
}

interface World {
  readonly awaited?: (now: number) => ReadonlyMap<number, string>;
  readonly tail?: string;
  /** Until when the fetch loop gives signs of life. */
  readonly fetchingUntil?: number;
  readonly endsAt?: number;
  readonly rebalancing?: boolean;
}

function watch(world: World): Promise<void> {
  const {
    awaited,
    tail = "0",
    fetchingUntil = Number.POSITIVE_INFINITY,
    endsAt = 120_000,
    rebalancing = false,
  } = world;
  const stop = new AbortController();
  let now = 0;
  const clock = steppingClock((time) => {
    now = time;
    if (now >= endsAt) stop.abort();
  });
  return watchProgress({
    context: { clock, logger: silentLogger },
    topic: "users",
    tails: async () => [{ partition: 0, high: tail }],
    awaited: () => awaited?.(now) ?? new Map(),
    movedAt: () => Math.min(now, fetchingUntil),
    rebalancing: () => rebalancing,
    signal: stop.signal,
  });
}

const stalled = { code: "broker.consumer_stalled", retry: "backoff" };

describe("the Kafka consumer's watchdog", () => {
  test("a consumer that fetches and waits at the tail is left alone", async () => {
    await watch({ awaited: () => new Map([[0, "7"]]), tail: "7" });
  });

  test("one that stops fetching is stalled, whether somebody reads or not", async () => {
    await expect(watch({ fetchingUntil: 20_000 })).rejects.toMatchObject(stalled);
  });

  test("one whose group rebalances gets longer, not for ever", async () => {
    await watch({ fetchingUntil: 20_000, endsAt: 40_000, rebalancing: true });
    await expect(watch({ fetchingUntil: 20_000, rebalancing: true })).rejects.toMatchObject(stalled);
  });

  test("one that fetches and does not get what is there is stalled", async () => {
    await expect(watch({ awaited: () => new Map([[0, "7"]]), tail: "9" })).rejects.toMatchObject(stalled);
  });

  test("one that moves on between two looks is not", async () => {
    await watch({ awaited: (now) => new Map([[0, String(now)]]), tail: "999999999" });
  });
});
