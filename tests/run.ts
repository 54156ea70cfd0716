/**
 * The gate: `make test`, or a part of it: `make test ONLY="unit kafka"`.
 * A word names a suite (`static`, or a folder under tests/), or a part of the names of the test files to run.
 * JOBS test files run side by side (one more than there are processors unless it says otherwise): most of them wait for servers.
 * Prints totals per suite, every skip with its reason, and last `N passed, N failed[, N skipped]`.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { runBunTest } from "./support/bun_test.ts";
import { leftovers } from "./support/leftovers.ts";
import { add, none, plan, type Suite, type Totals, tasks } from "./support/plan.ts";
import { runStatic } from "./support/static_checks.ts";
import { until } from "./support/until.ts";

/** What was signalled at the end of a task has this long to be gone. */
const LEFTOVER_GRACE_MS = 2_000;

let interrupted = false;
// The tests that run get the signal too and end their servers; then this program ends.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    interrupted = true;
  });
}

const say = (text: string) => process.stdout.write(`${text}\n`);

/** @returns the exit code */
async function main(words: readonly string[]): Promise<number> {
  const jobs = numberOfJobs(process.env.JOBS);
  const folder = mkdtempSync(join(tmpdir(), "replicator-run-"));
  const suites = plan(words);
  if (suites.length === 0) {
    say(`No test matches "${words.join(" ")}"`);
    return 2;
  }
  try {
    const totals = await runAll(suites, jobs, folder);
    return interrupted ? 130 : report(suites, totals);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function numberOfJobs(said: string | undefined): number {
  if (!said) return availableParallelism() + 1;
  if (/^[1-9]\d?$/.test(said)) return Number(said);
  say(`JOBS=${said}: expected a number from 1 to 99`);
  process.exit(2);
}

/** @returns totals by suite */
async function runAll(suites: readonly Suite[], jobs: number, folder: string): Promise<ReadonlyMap<string, Totals>> {
  const totals = new Map<string, Totals>();
  const note = (suite: string, more: Totals) => totals.set(suite, add(totals.get(suite) ?? none, more));
  if (suites.some(({ name }) => name === "static")) {
    say("── static ──");
    const began = performance.now();
    const done = runStatic();
    note("static", { ...done, seconds: (performance.now() - began) / 1000 });
  }
  const waiting = tasks(suites);
  const work = async () => {
    for (let task = waiting.shift(); task && !interrupted; task = waiting.shift()) {
      const mark = randomUUID();
      const began = performance.now();
      const { output, ...done } = await runBunTest(task, folder, mark);
      const all = add(done, await endLeftovers(mark, task.name));
      const seconds = (performance.now() - began) / 1000;
      say(`\n── ${task.name} ──\n${output.trim()}`);
      note(task.suite, { ...all, seconds });
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return totals;
}

/** A process that a task has left behind is a failed test. Only processes that carry this task's mark are ended. */
async function endLeftovers(mark: string, task: string): Promise<Totals> {
  await until("no process is left", () => leftovers(mark).length === 0, LEFTOVER_GRACE_MS).catch(() => {});
  const left = leftovers(mark).map(({ pid, command }) => {
    process.kill(pid, "SIGKILL");
    return `LEFT BEHIND by ${task}: ${pid} ${command}`;
  });
  return left.length > 0 ? { ...none, failed: 1, failures: left } : none;
}

function report(suites: readonly Suite[], totals: ReadonlyMap<string, Totals>): number {
  say("");
  let all: Totals = none;
  for (const { name } of suites) {
    const { passed, failed, skipped, seconds } = totals.get(name) ?? none;
    say(`${name}: ${passed} passed, ${failed} failed, ${skipped} skipped in ${seconds.toFixed(1)} s`);
    all = add(all, totals.get(name) ?? none);
  }
  for (const name of all.failures) say(`FAILED  ${name}`);
  for (const { name, reason } of all.missing) say(`SKIPPED ${name}: ${reason}`);
  const red = all.missing.some(({ optional }) => !optional) && Boolean(process.env.CI) && process.env.CI !== "false";
  if (red) say("A tool is missing, and CI must run every suite: this run counts as failed");
  const nothing = all.passed === 0;
  if (nothing) say("No test passed");
  const skipped = all.skipped > 0 ? `, ${all.skipped} skipped` : "";
  say(`${all.passed} passed, ${all.failed} failed${skipped}`);
  return all.failed > 0 || red || nothing ? 1 : 0;
}

process.exitCode = await main(process.argv.slice(2));
