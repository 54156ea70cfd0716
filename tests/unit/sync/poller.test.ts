import { describe, expect, test } from "bun:test";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import type { LoopHealth } from "../../../src/core/loop.ts";
import type { SyncSource } from "../../../src/core/sync_source.ts";
import { runPoller } from "../../../src/sync/poller.ts";
import { SyncRequest, SyncRequests } from "../../../src/sync/requests.ts";
import { HandClock } from "../../support/hand_clock.ts";
import { until } from "../../support/until.ts";

const INTERVAL = 300_000;

function poller(source: Partial<SyncSource> = {}) {
  const stop = new AbortController();
  const clock = new HandClock();
  const calls: string[] = [];
  const runs: number[] = [];
  const scheduled: (number | null)[] = [];
  const request = new SyncRequest("products");
  const healthOf = (name: string): LoopHealth => ({ name, trouble: null, errors: 0, lastError: null });
  const health = { poll: healthOf("poll"), timer: healthOf("timer") };
  const loops = runPoller(
    {
      table: { name: "products", intervalMs: INTERVAL, compareEveryMs: 1, overlapMs: 7, batchSize: 10 },
      source: {
        lease: async (_, owner, ttlMs) => ({ owner, term: 1, expiresAt: clock.monotonic() + ttlMs }),
        releaseLease: async () => {},
        compareKeys: async () => null,
        begin: async (_, overlapMs) => void calls.push(`begin ${overlapMs}`),
        batch: async (_, size) => {
          calls.push(`batch ${size}`);
          return { rows: calls.length, finished: calls.length % 3 === 0 };
        },
        confirm: async () => [],
        states: async () => [],
        close: async () => {},
        ...source,
      },
      request,
      owner: "me",
      leaseMs: 6_000,
      clock,
      logger: silentLogger,
      health,
      onRun: (rows) => runs.push(rows),
      onSchedule: (next) => scheduled.push(next),
    },
    stop.signal,
  );
  const end = async () => {
    stop.abort();
    await Promise.all(loops);
  };
  return { clock, calls, runs, scheduled, request, health, end };
}

describe("the poller of a table", () => {
  test("polls at the start, batch by batch to the end, and again when its interval has passed or somebody asks", async () => {
    const one = poller();
    await until("the first run has ended", () => one.runs.length === 1);
    expect(one.calls).toEqual(["begin 7", "batch 10", "batch 10"]);
    expect(one.scheduled).toEqual([INTERVAL]);
    expect(one.request.ask()).toBe("started");
    await until("the second run has ended", () => one.runs.length === 2);
    await until("the timer has asked again", async () => {
      await one.clock.advance(60_000);
      return one.runs.length === 3;
    });
    await one.end();
    expect(one.scheduled.at(-1)).toBeNull();
  });

  test("without the lease it asks for nothing by itself, and still serves whoever asks", async () => {
    const one = poller({ lease: async () => null });
    await one.clock.advance(INTERVAL);
    expect(one.request.ask()).toBe("started");
    await until("the run has ended", () => one.runs.length === 1);
    await one.clock.advance(INTERVAL);
    await one.end();
    expect([one.runs.length, one.scheduled]).toEqual([1, []]);
  });

  test("what a person has to mend is tried on, and told with the remedy", async () => {
    let broken = true;
    const error = {
      code: "sync.not_polled",
      message: "Cannot poll table products",
      retry: "never",
      fault: "environment",
      remedy: "Run: x",
    } as const;
    const one = poller({
      begin: async () => {
        if (broken) throw new ReplicatorError(error);
      },
    });
    await until("it says so", () => one.health.poll.trouble === "Cannot poll table products. Run: x");
    broken = false;
    await until("it goes on", async () => {
      await one.clock.advance(10_000);
      return one.runs.length > 0;
    });
    expect(one.health.poll.trouble).toBeNull();
    await one.end();
  });

  test("a wish that comes while a run is under way is followed by another run, many wishes by one", async () => {
    const ended: (() => void)[] = [];
    const one = poller({
      batch: () => new Promise((resolve) => ended.push(() => resolve({ rows: 0, finished: true }))),
    });
    await until("a run is under way", () => ended.length === 1);
    expect([one.request.ask(), one.request.ask()]).toEqual(["queued", "queued"]);
    ended[0]?.();
    await until("another follows", () => ended.length === 2);
    ended[1]?.();
    await until("both have ended", () => one.runs.length === 2);
    expect(ended.length).toBe(2);
    await one.end();
  });

  test("tables are asked for under any name SQL has for them", () => {
    const requests = new SyncRequests(["products", '"My Schema"."Order"']);
    expect(requests.ask("public.PRODUCTS")?.table).toBe("products");
    expect(requests.ask('"My Schema"."Order"')?.outcome).toBe("started");
    expect(requests.ask("order")).toBeNull();
  });
});
