/** INSERT, UPDATE and DELETE of many rows in one statement each. */
import { cpuPerRow, memoryOf, wallMs } from "../measurements.ts";
import { insertRows } from "../tables.ts";
import type { Measurement, Pair, Size, WorkloadOn } from "../types.ts";
import { untilVisible } from "../visible.ts";

interface Step {
  readonly operation: "insert" | "update" | "delete";
  readonly statement: string;
  readonly probe: string;
  readonly count: string;
  readonly rows: number;
}

function steps(first: number, rows: number): Step[] {
  const last = first + rows - 1;
  const range = `id BETWEEN ${first} AND ${last}`;
  const count = `SELECT count(*) AS rows FROM bench WHERE ${range}`;
  return [
    {
      operation: "insert",
      statement: insertRows("bench", first, rows),
      probe: `SELECT EXISTS (SELECT FROM bench WHERE id = ${last}) AS there`,
      count,
      rows,
    },
    {
      operation: "update",
      statement: `UPDATE bench SET n = n + 1, v = v || '!' WHERE ${range}`,
      probe: `SELECT EXISTS (SELECT FROM bench WHERE id = ${last} AND v LIKE '%!') AS there`,
      count: `${count} AND v LIKE '%!'`,
      rows,
    },
    {
      operation: "delete",
      statement: `DELETE FROM bench WHERE ${range}`,
      probe: `SELECT NOT EXISTS (SELECT FROM bench WHERE id = ${last}) AS there`,
      count,
      rows: 0,
    },
  ];
}

async function measure(pair: Pair, { rows }: Size): Promise<Measurement[]> {
  const found: Measurement[] = [];
  pair.resetPeaks();
  for (const step of steps(pair.freshIds(rows), rows)) {
    for (const sql of [pair.source, pair.target]) await sql.unsafe("CHECKPOINT");
    const before = pair.usage();
    const startedAt = wallMs();
    await pair.source.unsafe(step.statement);
    const committedAt = wallMs();
    const visibleAt = await untilVisible(pair.target, { ...step, what: `bulk ${step.operation}` });
    const perSecond = (since: number) => (rows * 1_000) / (visibleAt - since);
    found.push(
      { metric: `${step.operation}, from commit`, unit: "rows/s", better: "more", value: perSecond(committedAt) },
      { metric: `${step.operation}, from start`, unit: "rows/s", better: "more", value: perSecond(startedAt) },
      ...cpuPerRow(step.operation, before, pair.usage(), rows),
    );
    await Promise.all([pair.source, pair.target].map((sql) => sql.unsafe("VACUUM ANALYZE bench")));
  }
  return [...found, ...memoryOf(pair.usage())];
}

export const workload: WorkloadOn<"pair"> = {
  name: "bulk",
  about: "INSERT, UPDATE and DELETE of many rows in one statement each",
  on: "pair",
  contestants: [
    "control",
    "memory",
    "direct",
    "nats",
    "nats-statement",
    "nats-events",
    "kafka",
    "kafka-statement",
    "kafka-events",
  ],
  quickContestants: ["control", "memory", "nats", "kafka"],
  conditions: ["plain", "old-transaction"],
  measure,
};
