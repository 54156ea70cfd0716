import { expect, test } from "bun:test";
import { loadConfig } from "../../src/config/load.ts";
import { systemClock } from "../../src/core/clock.ts";
import { ReplicatorError } from "../../src/core/errors.ts";
import { type ChannelStatus, suspendedBy } from "../../src/core/status.ts";
import { NO_COUNTS, ProcessStatus, type StoreCounts } from "../../src/process_status.ts";

const COUNTS: StoreCounts = { ...NO_COUNTS, unpublished: 3, lastQueueId: "9" };

function statusOf(counts: () => Promise<StoreCounts>): ProcessStatus {
  const environment = { SERVICE_CONTOUR: "a", DATABASE_URL: "postgres://u@h/d", BROKER: "memory" };
  const { config } = loadConfig({
    file: undefined,
    environment,
    flags: [],
    needs: { contour: true, database: true, broker: true, run: false },
  });
  const status = new ProcessStatus({
    config,
    version: "0",
    clock: systemClock,
    tables: [],
    counts,
    metricsText: async () => "",
  });
  status.starting = null;
  return status;
}

const channel = (name: string, direction: "in" | "out", partition: number | null): ChannelStatus => ({
  channel: name,
  direction,
  kind: "frames",
  partition,
  epoch: 1,
  sequence: 1,
  cut_no: 1,
  messages: 1,
  changes: 1,
  active: true,
  trouble: null,
});

test("/status asked while the database is away does not make /ready say no for ever", async () => {
  const away = new ReplicatorError({
    code: "database.unreachable",
    message: "away",
    retry: "backoff",
    fault: "environment",
  });
  let isAway = true;
  const status = statusOf(() => (isAway ? Promise.reject(away) : Promise.resolve(COUNTS)));
  expect((await status.status()).unpublished).toBe(0);
  status.server("target database", null);
  isAway = false;
  expect((await status.status()).unpublished).toBe(3);
  expect(await status.ready()).toEqual({ ready: true, reasons: [], suspended: [] });
});

test("/status is answered with the last counts when the database does not answer", async () => {
  let answers = true;
  const status = statusOf(() => (answers ? Promise.resolve(COUNTS) : new Promise<StoreCounts>(() => undefined)));
  expect((await status.status()).unpublished).toBe(3);
  answers = false;
  expect((await status.status()).unpublished).toBe(3);
});

test("a channel's trouble is shown at its own partition, not at one whose name contains it", async () => {
  const status = statusOf(async () => COUNTS);
  for (const [name, partition] of [
    ["a/users", 0],
    ["a/users", 1],
    ["a/users_log", 0],
    ["aa/users", 0],
  ] as const)
    status.channel(channel(name, "in", partition));
  status.channel(channel("a/users", "out", null));
  status.health("channel a/users[1]").trouble = "a hole";
  status.health("publisher of a/users").trouble = "the broker is away";
  const { channels } = await status.status();
  expect(
    channels.filter(({ trouble }) => trouble !== null).map((one) => [one.channel, one.direction, one.trouble]),
  ).toEqual([
    ["a/users", "in", "a hole"],
    ["a/users", "out", "the broker is away"],
  ]);
});

test("/ready asks what is parked by itself: ready, and I12 suspended since when, by how much, in which tables", async () => {
  const parked = { parkedSince: "2026-11-21T10:00:00Z", parkedTables: ["users", "payments"] };
  const status = statusOf(async () => ({ ...COUNTS, parked: 2, dead: 1, ...parked }));
  const suspended = [
    "I12 suspended since 2026-11-21T10:00:00Z: 3 parked changes (1 of them dead letters) in users, payments",
  ];
  expect(await status.ready()).toEqual({ ready: true, reasons: [], suspended });
  expect(await status.status()).toMatchObject({ parked: 3, dead: 1, suspended_since: parked.parkedSince, suspended });
});

test("dead letters alone suspend I12 as well, and a long list of tables is cut", () => {
  const parkedTables = Array.from({ length: 12 }, (_, n) => `t${n}`);
  expect(suspendedBy({ parked: 0, dead: 1, parkedSince: "x", parkedTables })).toEqual([
    "I12 suspended since x: 1 parked change (1 of them dead letters) in t0, t1, t2, t3, t4, t5, t6, t7, t8, t9 and 2 more",
  ]);
  expect(suspendedBy({ parked: 0, dead: 0, parkedSince: null, parkedTables: [] })).toEqual([]);
});

test("a probe of /ready is not kept waiting by a database that does not answer, nor does it ask one thing twice at a time", async () => {
  let asked = 0;
  const status = statusOf(() => {
    asked++;
    return new Promise<StoreCounts>(() => undefined);
  });
  const began = performance.now();
  const answers = await Promise.all([status.ready(), status.ready(), status.ready()]);
  expect(answers.every(({ ready }) => ready)).toBe(true);
  expect(performance.now() - began).toBeLessThan(1_900);
  expect(asked).toBe(1);
});
