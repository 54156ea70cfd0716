/** Rows that wait because nothing carries them: how fast they are caught up with, and in how much memory. */
import { cpuPerRow, memoryOf, wallMs } from "../measurements.ts";
import { insertRows } from "../tables.ts";
import type { Measurement, Pair, Size, WorkloadOn } from "../types.ts";
import { untilVisible } from "../visible.ts";

/** Rows of one of the transactions that make the backlog. */
const TRANSACTION = 10_000;

async function measure(pair: Pair, { backlog }: Size): Promise<Measurement[]> {
  await pair.stopReplication();
  const first = pair.freshIds(backlog);
  for (let done = 0; done < backlog; done += TRANSACTION) {
    await pair.source.unsafe(insertRows("bench_backlog", first + done, Math.min(TRANSACTION, backlog - done)));
  }
  for (const sql of [pair.source, pair.target]) await sql.unsafe("CHECKPOINT");
  const before = pair.usage();
  const startedAt = wallMs();
  // Not awaited before the rows are: being ready is part of the time.
  const starting = pair.startReplication();
  const visible = untilVisible(pair.target, {
    what: "backlog",
    probe: `SELECT EXISTS (SELECT FROM bench_backlog WHERE id = ${first + backlog - 1}) AS there`,
    count: `SELECT count(*) AS rows FROM bench_backlog WHERE id BETWEEN ${first} AND ${first + backlog - 1}`,
    rows: backlog,
  });
  const [visibleAt] = await Promise.all([visible, starting]);
  const after = pair.usage();
  await pair.source.unsafe("TRUNCATE bench_backlog");
  const empty = "SELECT NOT EXISTS (SELECT FROM bench_backlog) AS there";
  const count = "SELECT count(*) AS rows FROM bench_backlog";
  await untilVisible(pair.target, { what: "emptying the backlog's table", probe: empty, count, rows: 0 });
  return [
    { metric: "caught up", unit: "rows/s", better: "more", value: (backlog * 1_000) / (visibleAt - startedAt) },
    ...cpuPerRow("catching up", before, after, backlog),
    ...memoryOf(after),
  ];
}

export const workload: WorkloadOn<"pair"> = {
  name: "backlog",
  about: "a backlog of many rows: how fast it is caught up with, in how much memory",
  on: "pair",
  contestants: ["control", "memory", "direct", "nats", "kafka"],
  quickContestants: ["nats", "kafka"],
  conditions: ["plain", "old-transaction"],
  quickConditions: ["plain"],
  measure,
};
