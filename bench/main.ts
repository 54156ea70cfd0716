/**
 * `bun run bench`: how fast a change travels through each broker, against PostgreSQL's own logical replication of the
 * same work in the same run. Rows are counted at the target. Prints a table of ratios, writes JSON.
 *
 *   bun run bench [--quick] [--only bulk,latency] [--broker nats,kafka] [--rows 200000] [--rounds 3] [--out FILE]
 */
import { writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { endAllServers } from "../tests/servers/process.ts";
import { type BenchPair, nativePair, replicatorPair } from "./pairs.ts";
import { BULK, type Figure, measureBulk, measureLatency } from "./workloads.ts";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    only: { type: "string", default: "bulk,latency" },
    broker: { type: "string", default: "nats,kafka" },
    rows: { type: "string" },
    rounds: { type: "string" },
    out: { type: "string", default: "bench-result.json" },
  },
});

const rows = Number(values.rows ?? (values.quick ? 20_000 : 200_000));
const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
const seconds = values.quick ? 3 : 20;
const workloads = new Set(values.only.split(","));

async function main(): Promise<void> {
  const contestants: [string, () => Promise<BenchPair>][] = [["native", nativePair]];
  for (const broker of values.broker.split(",")) {
    if (broker !== "nats" && broker !== "kafka") throw new Error(`Unknown broker "${broker}": nats or kafka`);
    contestants.push([`${broker} row`, () => replicatorPair(broker, "row")]);
    contestants.push([`${broker} statement`, () => replicatorPair(broker, "statement")]);
  }
  const pairs = new Map<string, BenchPair>();
  for (const [name, open] of contestants) pairs.set(name, await open());
  const figures: Figure[] = [];
  // Each round runs every contestant once, the yardstick among them, so that noise of the machine meets all alike.
  for (let round = 0; round < rounds; round++) {
    for (const [name, pair] of pairs) {
      if (workloads.has("bulk")) figures.push(...(await measureBulk(name, pair, rows)));
      if (workloads.has("latency")) figures.push(...(await measureLatency(name, pair, seconds)));
    }
  }
  report(figures);
  const machine = { cpus: cpus().length, model: cpus()[0]?.model, memory_gb: Math.round(totalmem() / 2 ** 30) };
  writeFileSync(
    values.out,
    `${JSON.stringify({ date: new Date().toISOString(), machine, rows, rounds, figures }, null, 2)}\n`,
  );
  console.log(`\nwritten to ${values.out}`);
  for (const pair of pairs.values()) await pair.close();
}

function report(figures: readonly Figure[]): void {
  const names = [...new Set(figures.map(({ contestant }) => contestant))];
  const median = (contestant: string, metric: string) => {
    const all = figures
      .filter((figure) => figure.contestant === contestant && figure.metric === metric)
      .map(({ value }) => value);
    all.sort((x, y) => x - y);
    return {
      middle: all[Math.floor(all.length / 2)] ?? Number.NaN,
      low: all[0] ?? Number.NaN,
      high: all.at(-1) ?? Number.NaN,
    };
  };
  for (const metric of [...new Set(figures.map((figure) => figure.metric))]) {
    console.log(`\n${metric}`);
    const yardstick = median("native", metric).middle;
    for (const name of names) {
      const { middle, low, high } = median(name, metric);
      const ratio = BULK.some((bulk) => metric.startsWith(bulk)) ? middle / yardstick : Number.NaN;
      const against = Number.isNaN(ratio) ? "" : `  ${ratio.toFixed(2)} × native`;
      console.log(`  ${name.padEnd(16)} ${format(middle).padStart(10)}  (${format(low)} – ${format(high)})${against}`);
    }
  }
}

function format(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(2);
}

try {
  await main();
} finally {
  await endAllServers();
}
