import { describe, expect, test } from "bun:test";
import type { Clock } from "../../../src/core/clock.ts";
import type { ChannelPosition, VerifyRows, VerifySide } from "../../../src/core/verify.ts";
import type { Candidate } from "../../../src/verify/compare_rows.ts";
import { markDelivery } from "../../../src/verify/delivery.ts";
import { Patience } from "../../../src/verify/patience.ts";
import { settle } from "../../../src/verify/settle.ts";

const { signal } = new AbortController();

/** Goes on only when somebody sleeps. */
function clockByHand(): Clock & { readonly slept: number[] } {
  let now = 0;
  const slept: number[] = [];
  return {
    slept,
    monotonic: () => now,
    now: () => now,
    sleep: async (ms) => {
      slept.push(ms);
      now += ms;
    },
  };
}

const unexpected = () => Promise.reject(new Error("was not expected"));

/** Rows by their key; `hash` is asked at each look. */
function rows(hash: (key: string) => string | null): VerifyRows {
  const listed: string[] = [];
  return {
    next: unexpected,
    nextKeys: unexpected,
    digest: unexpected,
    missing: unexpected,
    pick: unexpected,
    images: unexpected,
    newest: unexpected,
    hashes: async () => listed.map(hash),
    list: (keys) => {
      listed.splice(0, listed.length, ...keys.map(([key = ""]) => key));
      return { columns: [], count: keys.length };
    },
    unpolled: async ({ count }) => Array.from({ length: count }, () => false),
  };
}

const candidate = (key: string, here: string | null, there: string | null): Candidate => ({ key: [key], here, there });

describe("settle", () => {
  test("a row that is written at every look is in flight after a bounded number of looks", async () => {
    let looks = 0;
    const clock = clockByHand();
    const verdicts = await settle([candidate("hot", "h0", "t0")], {
      here: rows(() => `h${++looks}`),
      there: rows(() => "t0"),
      patience: new Patience(1_000, clock),
      signal,
      mark: async () => async () => true,
    });
    expect([verdicts.different.length, verdicts.inFlight.length]).toEqual([0, 1]);
    expect(looks).toBeLessThanOrEqual(20);
    expect(clock.slept).toEqual([]);
  });

  test("patience is for all second looks together, and at its end what has not arrived is in flight", async () => {
    const clock = clockByHand();
    const patience = new Patience(120, clock);
    const ask = () =>
      settle([candidate("a", "x", null)], {
        here: rows(() => "x"),
        there: rows(() => null),
        patience,
        signal,
        mark: async () => async () => false,
      });
    expect((await ask()).inFlight.length).toBe(1);
    expect(clock.monotonic()).toBe(120);
    expect((await ask()).inFlight.length).toBe(1);
    expect(clock.monotonic()).toBe(120);
  });

  test("one that is equal by now is left out, one that stays as it was is different", async () => {
    const { different, inFlight } = await settle([candidate("late", "x", null), candidate("spoiled", "x", "y")], {
      here: rows(() => "x"),
      there: rows((key) => (key === "late" ? "x" : "y")),
      patience: new Patience(0, clockByHand()),
      signal,
      mark: async () => async () => true,
    });
    expect(different.map(({ key }) => key[0])).toEqual(["spoiled"]);
    expect(inFlight).toEqual([]);
  });
});

describe("markDelivery", () => {
  const position = (epoch: bigint, sequence: bigint, partition = 0, channel = "changes"): ChannelPosition => ({
    channel,
    partition,
    epoch,
    sequence,
  });
  function side(parts: Partial<VerifySide>): VerifySide {
    return {
      label: "side",
      facts: unexpected,
      replicated: unexpected,
      shape: unexpected,
      rows: () => rows(() => null),
      mark: async () => "mark",
      published: async () => [],
      applied: async () => null,
      close: async () => {},
      ...parts,
    };
  }
  const arrived = async (published: readonly ChannelPosition[] | null, applied: readonly ChannelPosition[] | null) => {
    const here = side({ published: async () => published });
    const there = side({ applied: async () => applied });
    return await (await markDelivery({ here, there, hereName: "a", thereName: null }, signal))();
  };

  test("has arrived when every partition of every channel is applied as far as it is confirmed", async () => {
    expect(await arrived(null, [position(1n, 9n)])).toBe(false);
    expect(await arrived([position(1n, 7n)], [position(1n, 7n)])).toBe(true);
    expect(await arrived([position(1n, 8n)], [position(1n, 7n)])).toBe(false);
    expect(await arrived([position(1n, 8n)], [position(2n, 1n)])).toBe(true);
    expect(await arrived([position(1n, 7n), position(1n, 1n, 1)], [position(1n, 7n)])).toBe(false);
    expect(await arrived([position(1n, 7n), position(1n, 0n, 1)], [position(1n, 7n)])).toBe(true);
    expect(await arrived([position(1n, 1n, 0, "topic")], [position(1n, 7n)])).toBe(false);
  });

  test("a way that nobody goes carries nothing; a standby marks nothing", async () => {
    expect(await arrived([position(1n, 7n)], null)).toBe(true);
    const standby = side({ mark: async () => null, published: unexpected });
    const delivered = await markDelivery({ here: standby, there: standby, hereName: "a", thereName: "b" }, signal);
    expect(await delivered()).toBe(true);
  });
});
