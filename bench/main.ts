/**
 * `bun run bench`: how fast a change travels through each broker, against PostgreSQL's own logical replication of the
 * same work in the same run. Prints tables of ratios, writes JSON. docs/benchmarks.md tells what each figure means.
 */
import { join } from "node:path";
import { BROKERS } from "../tests/e2e/pair.ts";
import { endAllServers } from "../tests/servers/process.ts";
import { ROOT } from "../tools/cache.mjs";
import { type BenchArguments, helpText, parseArguments } from "./arguments.ts";
import { compiledProgram } from "./binary.ts";
import { compare } from "./compare.ts";
import { FIELDS } from "./contestants.ts";
import { writeDoc } from "./doc.ts";
import { describeMachine, QUIET_LOAD } from "./machine.ts";
import { notesOf } from "./notes.ts";
import { type Section, sectionsOf } from "./report.ts";
import { readResult, writeResult } from "./result_file.ts";
import { opening, runBench } from "./runner.ts";
import { missing } from "./servers.ts";
import { plainTable } from "./text_table.ts";
import type { Result, Sample, Workload } from "./types.ts";
import { UsageError } from "./usage_error.ts";
import { loadWorkloads } from "./workloads.ts";

const OK = 0;
const FAILED = 1;
const USAGE = 2;
const ENVIRONMENT = 3;
const DOC = join(ROOT, "docs/benchmarks.md");

const print = (text: string) => process.stdout.write(`${text}\n`);
const say = (text: string) => process.stderr.write(`${text}\n`);

/** @returns the exit code */
async function main(words: readonly string[]): Promise<number> {
  const workloads = await loadWorkloads();
  const given = parseArguments(words, workloads);
  if (given.help) {
    print(helpText(workloads));
    return OK;
  }
  // Before hours of work, not after them.
  const before = given.compare === null ? null : readResult(given.compare);
  const result = given.from === null ? await measure(given, workloads) : readResult(given.from);
  if (result === null) return ENVIRONMENT;
  if (given.writeDoc) {
    writeDoc(DOC, result);
    print(`written to ${DOC}`);
    return OK;
  }
  for (const section of sectionsOf(result)) printSection(section);
  if (before) {
    const { differences, section } = compare(before, result);
    printSection(section);
    for (const difference of differences) print(`  not alike: ${difference}`);
  }
  for (const note of notesOf(result)) print(`\n${note}`);
  if (given.from === null) print(`\nwritten to ${given.out}`);
  return given.from === null && result.failures.length > 0 ? FAILED : OK;
}

/** Null when a program is missing here; it has been said which. */
async function measure(given: BenchArguments, all: readonly Workload[]): Promise<Result | null> {
  const workloads = all.filter(({ name }) => given.workloads.includes(name));
  const names = [...opening({ ...given, workloads })];
  if (names.length === 0) {
    throw new UsageError("None of the contestants and conditions takes part in these workloads: nothing to measure");
  }
  const lacking = missing(new Set(BROKERS.filter((kind) => names.some((name) => name.includes(kind)))));
  for (const line of lacking) say(`missing: ${line}`);
  if (lacking.length > 0) return null;
  if (given.binary) process.env.REPLICATOR_BINARY = compiledProgram();
  const machine = describeMachine(given.binary ? "binary" : "sources");
  if (machine.load_before > QUIET_LOAD) {
    say(`The load average is ${machine.load_before}: somebody else is at work, figures will be worth little`);
  }
  const samples: Sample[] = [];
  const failures: string[] = [];
  const result = (): Result => ({
    format: 1,
    date: new Date(startedAt).toISOString(),
    quick: given.quick,
    rounds: given.rounds,
    size: given.size,
    machine,
    yardsticks: yardsticksOf(workloads),
    samples,
    failures,
  });
  const startedAt = Date.now();
  await runBench({
    ...given,
    workloads,
    say: (line) => say(`${String(Math.round((Date.now() - startedAt) / 1_000)).padStart(5)} s  ${line}`),
    onSamples: (more) => {
      samples.push(...more);
      // After each workload: a run takes hours and may be ended.
      writeResult(given.out, result());
    },
    onFailure: (message) => {
      failures.push(message);
      writeResult(given.out, result());
      say(`FAILED ${message}`);
    },
  });
  return result();
}

function yardsticksOf(workloads: readonly Workload[]): Record<string, string> {
  return Object.fromEntries(
    workloads.flatMap(({ name, on }) => {
      const yardstick = FIELDS[on].yardstick;
      return yardstick ? [[name, yardstick.name]] : [];
    }),
  );
}

function printSection({ title, head, rows }: Section): void {
  print(`\n${title}\n${plainTable(head, rows).replace(/^/gm, "  ")}`);
}

let code: number;
try {
  code = await main(process.argv.slice(2));
} catch (error) {
  const isUsage = error instanceof UsageError;
  say(`bench: ${isUsage ? error.message : error instanceof Error ? error.stack : String(error)}`);
  if (isUsage) say("  All flags: bun run bench --help");
  code = isUsage ? USAGE : FAILED;
} finally {
  await endAllServers();
}
process.exit(code);
