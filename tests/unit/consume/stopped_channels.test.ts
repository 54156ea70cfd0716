import { expect, test } from "bun:test";
import { StoppedChannels } from "../../../src/consume/stopped_channels.ts";
import { gap } from "../../../src/consume/stops.ts";
import type { Channel } from "../../../src/core/channel.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import type { LoopHealth } from "../../../src/core/loop.ts";
import { HandClock } from "../../support/hand_clock.ts";

const channel = (contour: string): Channel => ({ contour, name: "changes", kind: "frames", partitions: 1 });

function world() {
  const clock = new HandClock();
  const healths = new Map<string, LoopHealth>();
  const stops = new StoppedChannels({
    feed: "log",
    partition: 0,
    clock,
    logger: silentLogger,
    health: (name) => {
      const health = healths.get(name) ?? { name, trouble: null, errors: 0, lastError: null };
      healths.set(name, health);
      return health;
    },
  });
  const stop = (contour = "a") => stops.stopped(channel(contour), gap(channel(contour), 7, 0));
  return {
    clock,
    stops,
    stop,
    trouble: (contour = "a") => healths.get(`channel ${contour}/changes[0]`)?.trouble ?? null,
  };
}

test("a channel that stops has the whole log read again at once, and is in trouble when that does not help", () => {
  const { stops, stop, trouble } = world();
  expect(stops.takeRewind()).toBe(false);
  expect(stop()).toBe(0);
  expect(trouble()).toBeNull();
  expect(stops.takeRewind()).toBe(true);
  expect(stop()).toBeGreaterThan(0);
  expect(trouble()).toContain("Sequence 7");
});

test("later tries begin at the ledger's position: in a day the whole log is read a few dozen times at most", async () => {
  const { clock, stops, stop } = world();
  let tries = 0;
  let rewinds = 0;
  while (clock.monotonic() < 86_400_000) {
    const rest = stop();
    tries++;
    if (stops.takeRewind()) rewinds++;
    // Hours in steps of 10 ms would take minutes: only the clock's reading counts here.
    const skipped = clock.monotonic() + rest + 2_000;
    clock.monotonic = () => skipped;
  }
  expect(tries).toBeGreaterThan(1_000);
  expect(rewinds).toBeGreaterThan(10);
  expect(rewinds).toBeLessThan(60);
});

test("another channel that stops has the log read again for itself", () => {
  const { stops, stop } = world();
  stop("a");
  expect(stops.takeRewind()).toBe(true);
  stop("a");
  expect(stops.takeRewind()).toBe(false);
  stop("b");
  expect(stops.takeRewind()).toBe(true);
});

test("a channel whose changes are applied again is out of trouble", () => {
  const { stops, stop, trouble } = world();
  stop();
  stop();
  stops.over("a");
  expect(trouble()).toBeNull();
  expect(stop()).toBe(0);
});
