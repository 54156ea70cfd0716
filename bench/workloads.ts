/** The work: bulk statements and a steady stream of single-row transactions. */
import type { Sql } from "postgres";
import { until } from "../tests/support/until.ts";
import type { BenchPair } from "./pairs.ts";

export interface Figure {
  readonly contestant: string;
  readonly metric: string;
  readonly value: number;
}

export const BULK = ["bulk insert", "bulk update", "bulk delete"];
const TIMEOUT_MS = 300_000;

/** rows/s from the commit to the last row visible at the target, for one statement each. */
export async function measureBulk(contestant: string, pair: BenchPair, rows: number): Promise<Figure[]> {
  const { source, target } = pair;
  const steps: [string, string, (sql: Sql) => Promise<boolean>][] = [
    [
      "bulk insert",
      `INSERT INTO bench (id, v, n) SELECT g, repeat('x', 100) || g, g / 7.0 FROM generate_series(1, ${rows}) g`,
      async (sql) => (await sql`SELECT count(*)::int AS n FROM bench`)[0]?.n === rows,
    ],
    [
      "bulk update",
      "UPDATE bench SET n = n + 1, v = v || '!'",
      async (sql) => (await sql`SELECT count(*)::int AS n FROM bench WHERE v LIKE '%!'`)[0]?.n === rows,
    ],
    ["bulk delete", "DELETE FROM bench", async (sql) => (await sql`SELECT count(*)::int AS n FROM bench`)[0]?.n === 0],
  ];
  const figures: Figure[] = [];
  for (const [metric, statement, done] of steps) {
    const startedAt = performance.now();
    await source.unsafe(statement);
    const committedAt = performance.now();
    await until(`${contestant}: ${metric} is there`, () => done(target), TIMEOUT_MS);
    const visibleAt = performance.now();
    figures.push(
      { contestant, metric: `${metric}, rows/s from commit`, value: (rows * 1_000) / (visibleAt - committedAt) },
      { contestant, metric: `${metric}, statement seconds`, value: (committedAt - startedAt) / 1_000 },
    );
    await Promise.all([source.unsafe("VACUUM bench"), target.unsafe("VACUUM bench")]);
  }
  for (const [process, megabytes] of Object.entries(pair.memory())) {
    figures.push({ contestant, metric: `${process} peak MB`, value: megabytes });
  }
  return figures;
}

/**
 * Milliseconds from commit to visible for single-row transactions at a steady rate: both ends on this machine, the target
 * asks for the newest row in a closed loop, so a figure includes half of one query.
 */
export async function measureLatency(contestant: string, pair: BenchPair, seconds: number): Promise<Figure[]> {
  const { source, target } = pair;
  const rate = 1_000;
  const total = rate * seconds;
  const base = 1_000_000_000;
  const committed = new Float64Array(total + 1);
  const latencies: number[] = [];
  let sent = 0;
  let seen = 0;
  const watching = (async () => {
    const deadline = performance.now() + seconds * 1_000 + 60_000;
    while (seen < total && performance.now() < deadline) {
      const [row] = await target`SELECT coalesce(max(id), ${base})::bigint AS id FROM bench WHERE id > ${base}`;
      const upTo = Number(row?.id) - base;
      const now = performance.now();
      for (; seen < upTo; seen++) if (committed[seen + 1]) latencies.push(now - (committed[seen + 1] as number));
    }
  })();
  const startedAt = performance.now();
  while (sent < total) {
    const due = Math.min(total, Math.floor(((performance.now() - startedAt) / 1_000) * rate));
    if (sent >= due) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      continue;
    }
    const id = ++sent;
    await source`INSERT INTO bench (id, v, n) VALUES (${base + id}, 'steady', 1)`;
    committed[id] = performance.now();
  }
  await watching;
  await source.unsafe(`DELETE FROM bench WHERE id > ${base}`);
  await until(
    `${contestant}: the steady rows are gone`,
    async () => (await target`SELECT count(*)::int AS n FROM bench`)[0]?.n === 0,
    TIMEOUT_MS,
  );
  latencies.sort((x, y) => x - y);
  const at = (share: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? Number.NaN;
  return [
    { contestant, metric: "latency p50, ms", value: at(0.5) },
    { contestant, metric: "latency p95, ms", value: at(0.95) },
    { contestant, metric: "latency p99, ms", value: at(0.99) },
    { contestant, metric: "latency rows seen", value: latencies.length },
  ];
}
