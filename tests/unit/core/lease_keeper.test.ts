import { expect, test } from "bun:test";
import type { ReplicatorError } from "../../../src/core/errors.ts";
import type { Lease } from "../../../src/core/lease.ts";
import { LeaseKeeper, type LeaseKeeperOptions } from "../../../src/core/lease_keeper.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import { HandClock } from "../../support/hand_clock.ts";

const TTL = 1_000;

function keeperOf(acquire: (asked: number) => Promise<Lease | null>, given: Lease[] = []) {
  const clock = new HandClock();
  let asked = 0;
  const options: LeaseKeeperOptions = {
    what: "a thing",
    ttlMs: TTL,
    acquire: () => acquire(++asked),
    release: async (lease) => void given.push(lease),
    clock,
    logger: silentLogger,
  };
  return { clock, keeper: new LeaseKeeper(options), granted: (term = 1) => lease(term, clock.monotonic() + TTL) };
}

const lease = (term: number, expiresAt: number): Lease => ({ owner: "me", term, expiresAt });

function codeOf(act: () => unknown): string | null {
  try {
    act();
    return null;
  } catch (error) {
    return (error as ReplicatorError).code;
  }
}

test("a lease is renewed while its owner works, and given back afterwards", async () => {
  const given: Lease[] = [];
  const { clock, keeper, granted } = keeperOf(async () => granted(), given);
  const finish = Promise.withResolvers<void>();
  const holding = keeper.hold(new AbortController().signal, async (held, lost) => {
    await finish.promise;
    expect(lost.aborted).toBe(false);
    expect(held.get().expiresAt).toBeGreaterThan(clock.monotonic());
    return "done";
  });
  await clock.advance(5 * TTL);
  finish.resolve();
  expect(await holding).toBe("done");
  expect(given.length).toBe(1);
});

test("I8: a renewal that is never answered does not keep a lease beyond its time", async () => {
  const given: Lease[] = [];
  const never = new Promise<Lease>(() => undefined);
  const { clock, keeper, granted } = keeperOf((asked) => (asked === 1 ? Promise.resolve(granted()) : never), given);
  const seen: (string | null)[] = [];
  const holding = keeper.hold(new AbortController().signal, async (held, lost) => {
    await new Promise((resolve) => lost.addEventListener("abort", resolve, { once: true }));
    seen.push(codeOf(() => held.get()));
  });
  await clock.advance(0.9 * TTL);
  expect(seen).toEqual([]);
  await clock.advance(0.2 * TTL);
  await holding;
  expect(seen).toEqual(["lease.lost"]);
  expect(given).toEqual([]);
});

test("a lease that another process has taken is lost at once", async () => {
  const { clock, keeper, granted } = keeperOf(async (asked) => (asked === 1 ? granted() : null));
  let lostAt = 0;
  const holding = keeper.hold(new AbortController().signal, async (_, lost) => {
    await new Promise((resolve) => lost.addEventListener("abort", resolve, { once: true }));
    lostAt = clock.monotonic();
  });
  await clock.advance(TTL);
  await holding;
  expect(lostAt).toBeLessThan(TTL / 2);
});

test("work that would outlast the lease is refused", async () => {
  const { keeper, granted } = keeperOf(async () => granted());
  const codes = await keeper.hold(new AbortController().signal, async (held) => [
    codeOf(() => held.require(TTL / 2)),
    codeOf(() => held.require(2 * TTL)),
  ]);
  expect(codes).toEqual([null, "lease.lost"]);
});

test("one who waits for a lease gets it soon after it has run out", async () => {
  const free = 3 * TTL;
  const { clock, keeper, granted } = keeperOf(async () => (clock.monotonic() < free ? null : granted()));
  let at = 0;
  const holding = keeper.hold(new AbortController().signal, async () => {
    at = clock.monotonic();
  });
  await clock.advance(4 * TTL);
  await holding;
  expect(at - free).toBeLessThanOrEqual(TTL / 8);
});

test("one who waits while another holds the lease is told so each time it is refused", async () => {
  const { clock, keeper } = keeperOf(async (asked) => (asked < 3 ? null : lease(1, 1_000_000)));
  let refused = 0;
  const holding = keeper.hold(
    new AbortController().signal,
    async () => "held",
    () => refused++,
  );
  await clock.advance(TTL);
  expect(await holding).toBe("held");
  expect(refused).toBe(2);
});
