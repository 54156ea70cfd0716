/** What capture costs the application: no replicator runs. */
import { makeAccounts } from "../accounts.ts";
import { RANGE } from "../load.ts";
import { startLoad } from "../load_process.ts";
import { insertRows } from "../tables.ts";
import type { AppDatabase, Measurement, Size, WorkloadOn } from "../types.ts";

async function measure(database: AppDatabase, size: Size): Promise<Measurement[]> {
  return [await singleRows(database, size), ...(await statements(database, size))];
}

async function singleRows({ sql, url, freshIds }: AppDatabase, size: Size): Promise<Measurement> {
  const { connections, seconds, accounts } = size;
  await makeAccounts(sql, accounts);
  await sql.unsafe("VACUUM ANALYZE bench_accounts");
  await sql.unsafe("CHECKPOINT");
  const firstId = freshIds(connections * RANGE);
  const order = { kind: "unthrottled", connections, seconds, rate: 0, firstId, accounts } as const;
  const { committed, startedAt, endedAt } = await startLoad({ ...order, url }).done;
  const tps = (committed * 1_000) / (endedAt - startedAt);
  return { metric: "single-row transactions", unit: "tps", better: "more", value: tps };
}

async function statements({ sql, freshIds }: AppDatabase, { rows }: Size): Promise<Measurement[]> {
  const first = freshIds(rows);
  const range = `id BETWEEN ${first} AND ${first + rows - 1}`;
  const found: Measurement[] = [];
  for (const [operation, statement] of [
    ["insert", insertRows("bench", first, rows)],
    ["update", `UPDATE bench SET n = n + 1, v = v || '!' WHERE ${range}`],
    ["delete", `DELETE FROM bench WHERE ${range}`],
  ] as const) {
    await sql.unsafe("CHECKPOINT");
    const startedAt = performance.now();
    const { count } = await sql.unsafe(statement);
    const seconds = (performance.now() - startedAt) / 1_000;
    if (count !== rows) throw new Error(`bulk ${operation}: ${count} rows, expected ${rows}`);
    found.push({ metric: `bulk ${operation} statement`, unit: "rows/s", better: "more", value: rows / seconds });
    await sql.unsafe("VACUUM ANALYZE bench");
  }
  return found;
}

export const workload: WorkloadOn<"database"> = {
  name: "application",
  about: "the application's own throughput with capture off, row and statement; no replicator runs",
  on: "database",
  contestants: ["control", "capture-auto", "capture-row", "capture-statement"],
  quickContestants: ["control", "capture-row", "capture-statement"],
  conditions: ["plain", "old-transaction"],
  quickConditions: ["plain"],
  measure,
};
