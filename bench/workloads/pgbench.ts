/** Transactions like pgbench's simple update, as fast as the application can: does replication keep up? */
import { makeAccounts } from "../accounts.ts";
import { RANGE } from "../load.ts";
import { startLoad } from "../load_process.ts";
import { cpuPerRow, memoryOf, wallMs } from "../measurements.ts";
import { type LagSample, lagGrowth } from "../trend.ts";
import type { Measurement, Pair, Size, WorkloadOn } from "../types.ts";
import { pause, untilVisible } from "../visible.ts";

const LOOK_EVERY_MS = 250;
/** An UPDATE and an INSERT. */
const ROWS_PER_TRANSACTION = 2;

async function measure(pair: Pair, size: Size): Promise<Measurement[]> {
  const { connections, seconds, accounts } = size;
  await prepare(pair, accounts);
  const first = pair.freshIds(connections * RANGE);
  pair.resetPeaks();
  const before = pair.usage();
  const order = { kind: "unthrottled", connections, seconds, rate: 0, firstId: first, accounts } as const;
  const load = startLoad({ ...order, url: pair.sourceUrl });
  const ranges = Array.from({ length: connections }, (_, n) => first + n * RANGE);
  const counted = async (): Promise<LagSample> => {
    const [there, here] = [await greatest(pair.target, ranges), await greatest(pair.source, ranges)];
    return { at: wallMs(), lag: here - there };
  };
  const samples: LagSample[] = [];
  const done = load.done.then(
    (result) => ({ result }),
    (error: unknown) => ({ error }),
  );
  let outcome: Awaited<typeof done> | undefined;
  void done.then((found) => {
    outcome = found;
  });
  while (!outcome) {
    if (load.committed() > 0) samples.push(await counted());
    await Promise.race([pause(LOOK_EVERY_MS), done]);
  }
  if ("error" in outcome) throw outcome.error;
  const { committed, startedAt, endedAt } = outcome.result;
  const applied = await greatest(pair.target, ranges);
  const drainedAt = await untilVisible(pair.target, {
    what: "unthrottled load",
    probe: `SELECT ${sumOfGreatest(ranges)} >= ${committed} AS there`,
    count: `SELECT count(*) AS rows FROM bench_history WHERE id >= ${first} AND id < ${first + connections * RANGE}`,
    rows: committed,
  });
  const after = pair.usage();
  const elapsed = (endedAt - startedAt) / 1_000;
  const tps = committed / elapsed;
  return [
    { metric: "source rate", unit: "tps", better: "more", value: tps },
    { metric: "applied while it runs", unit: "tps", better: "more", value: applied / elapsed },
    { metric: "lag growth, of the source rate", unit: "%", better: "less", value: (lagGrowth(samples) / tps) * 100 },
    { metric: "drain time", unit: "s", better: "less", value: Math.max(0, drainedAt - endedAt) / 1_000 },
    ...cpuPerRow("unthrottled", before, after, committed * ROWS_PER_TRANSACTION),
    ...memoryOf(after),
  ];
}

async function prepare(pair: Pair, accounts: number): Promise<void> {
  await makeAccounts(pair.source, accounts);
  await untilVisible(pair.target, {
    what: "accounts",
    probe: `SELECT EXISTS (SELECT FROM bench_accounts WHERE id = ${accounts}) AS there`,
    count: `SELECT count(*) AS rows FROM bench_accounts WHERE id <= ${accounts}`,
    rows: accounts,
  });
  const vacuum = "VACUUM ANALYZE bench_accounts, bench_history";
  await Promise.all([pair.source, pair.target].map((sql) => sql.unsafe(vacuum)));
  for (const sql of [pair.source, pair.target]) await sql.unsafe("CHECKPOINT");
}

/** How many rows of history there are when none is missing below the greatest of its connection: cheap, four look-ups. */
function sumOfGreatest(ranges: readonly number[]): string {
  return ranges
    .map(
      (first) =>
        `coalesce((SELECT max(id) - ${first} + 1 FROM bench_history WHERE id >= ${first} AND id < ${first + RANGE}), 0)`,
    )
    .join(" + ");
}

async function greatest(sql: Pair["source"], ranges: readonly number[]): Promise<number> {
  const [row] = await sql.unsafe<{ rows: string }[]>(`SELECT ${sumOfGreatest(ranges)} AS rows`, [], { prepare: true });
  return Number(row?.rows ?? 0);
}

export const workload: WorkloadOn<"pair"> = {
  name: "pgbench",
  about: "transactions like pgbench's simple update, unthrottled: sustained rate, lag and drain time",
  on: "pair",
  contestants: ["control", "memory", "direct", "nats", "kafka"],
  quickContestants: ["nats", "kafka"],
  conditions: ["plain", "old-transaction"],
  quickConditions: ["plain"],
  measure,
};
