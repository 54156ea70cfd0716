/** Single-row transactions at a steady rate: how long from the commit until the row is visible at the target. */
import type { Sql } from "postgres";
import { startLoad } from "../load_process.ts";
import { cpuPerRow, memoryOf, percentile, wallMs } from "../measurements.ts";
import type { Measurement, Pair, Size, WorkloadOn } from "../types.ts";
import { pause, untilVisible } from "../visible.ts";

/** Between two looks at the target: what a figure may be too large by, with the time of one query. */
const LOOK_EVERY_MS = 1;
const GRACE_MS = 120_000;

async function measure(pair: Pair, { rate, seconds, connections }: Size): Promise<Measurement[]> {
  const total = Math.round(rate * seconds);
  const first = pair.freshIds(total);
  pair.resetPeaks();
  const before = pair.usage();
  const order = { kind: "steady", connections, seconds, rate, firstId: first, accounts: 1 } as const;
  const load = startLoad({ ...order, url: pair.sourceUrl });
  const watching = new AbortController();
  const seen = watch(pair.target, { first, total, deadline: wallMs() + seconds * 1_000 + GRACE_MS }, watching.signal);
  const { commits, startedAt, endedAt } = await load.done.catch((error: unknown) => {
    watching.abort();
    throw error;
  });
  const visible = await seen;
  const after = pair.usage();
  const latencies = commits.map((committedAt, n) => (visible[n] ?? Number.NaN) - committedAt).sort((x, y) => x - y);
  const reached = (total * 1_000) / (endedAt - startedAt);
  await clear(pair, first, total);
  return [
    { metric: "p50", unit: "ms", better: "less", value: percentile(latencies, 0.5) },
    { metric: "p95", unit: "ms", better: "less", value: percentile(latencies, 0.95) },
    { metric: "p99", unit: "ms", better: "less", value: percentile(latencies, 0.99) },
    { metric: "rate reached", unit: "tps", better: "neither", value: reached },
    ...cpuPerRow("steady", before, after, total),
    ...memoryOf(after),
  ];
}

interface Range {
  readonly first: number;
  readonly total: number;
  /** wallMs() after which it is an error that rows are missing. */
  readonly deadline: number;
}

/** wallMs() when the answer came that had row n in it for the first time. */
async function watch(target: Sql, { first, total, deadline }: Range, signal: AbortSignal): Promise<number[]> {
  const visible = new Array<number>(total).fill(Number.NaN);
  let missing = total;
  // Rows may come out of order: what is asked for begins at the first that was not seen.
  let complete = 0;
  while (missing > 0 && !signal.aborted) {
    const rows = await target<{ id: string }[]>`
      SELECT id FROM bench WHERE id >= ${first + complete} AND id < ${first + total}`;
    const now = wallMs();
    for (const { id } of rows) {
      const n = Number(id) - first;
      if (!Number.isNaN(visible[n])) continue;
      visible[n] = now;
      missing--;
    }
    while (complete < total && !Number.isNaN(visible[complete])) complete++;
    if (now > deadline) throw new Error(`steady load: ${missing} of ${total} rows are not at the target`);
    await pause(LOOK_EVERY_MS);
  }
  return visible;
}

async function clear(pair: Pair, first: number, total: number): Promise<void> {
  const range = `id BETWEEN ${first} AND ${first + total - 1}`;
  await pair.source.unsafe(`DELETE FROM bench WHERE ${range}`);
  const probe = `SELECT NOT EXISTS (SELECT FROM bench WHERE ${range}) AS there`;
  const count = `SELECT count(*) AS rows FROM bench WHERE ${range}`;
  await untilVisible(pair.target, { what: "removing the steady rows", probe, count, rows: 0 });
  await Promise.all([pair.source, pair.target].map((sql) => sql.unsafe("VACUUM ANALYZE bench")));
}

export const workload: WorkloadOn<"pair"> = {
  name: "latency",
  about: "steady single-row transactions: from the commit to visible at the target",
  on: "pair",
  contestants: ["control", "memory", "direct", "nats", "kafka"],
  quickContestants: ["nats", "kafka"],
  conditions: ["plain", "old-transaction"],
  quickConditions: ["plain"],
  measure,
};
