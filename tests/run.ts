/**
 * The gate: `make test`, or a part of it: `make test ONLY="unit kafka"`.
 * A word names a suite (`static`, or a folder under tests/), or a part of the names of the test files to run.
 * Prints totals per suite, every skip with its reason, and last `N passed, N failed[, N skipped]`.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runBunTest } from "./support/bun_test.ts";
import { leftovers, RUN_MARK } from "./support/leftovers.ts";
import { add, none, plan, type Totals } from "./support/plan.ts";
import { runStatic } from "./support/static_checks.ts";
import { until } from "./support/until.ts";

/** What was signalled at the end of a suite has this long to be gone. */
const LEFTOVER_GRACE_MS = 2_000;

let interrupted = false;
// The suite that runs gets the signal too and ends its servers; then this program ends.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    interrupted = true;
  });
}

const say = (text: string) => process.stdout.write(`${text}\n`);

/** @returns the exit code */
async function main(words: readonly string[]): Promise<number> {
  const run = randomUUID();
  process.env[RUN_MARK] = run;
  const folder = mkdtempSync(join(tmpdir(), "replicator-run-"));
  let totals: Totals = none;
  try {
    const suites = plan(words);
    if (suites.length === 0) {
      say(`No test matches "${words.join(" ")}"`);
      return 2;
    }
    for (const suite of suites) {
      if (interrupted) return 130;
      say(`\n── ${suite.name} ──`);
      const began = performance.now();
      const done = suite.name === "static" ? runStatic() : await runBunTest(suite, folder);
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      say(`${suite.name}: ${done.passed} passed, ${done.failed} failed, ${done.skipped} skipped in ${seconds} s`);
      totals = add(totals, add(done, await endLeftovers(run, suite.name)));
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return interrupted ? 130 : report(totals);
}

/** A process that a suite has left behind is a failed test. Only processes that carry this run's mark are ended. */
async function endLeftovers(run: string, suite: string): Promise<Totals> {
  await until("no process is left", () => leftovers(run).length === 0, LEFTOVER_GRACE_MS).catch(() => {});
  const left = leftovers(run);
  for (const { pid, command } of left) {
    say(`LEFT BEHIND by ${suite}: ${pid} ${command}`);
    process.kill(pid, "SIGKILL");
  }
  return { ...none, failed: left.length > 0 ? 1 : 0 };
}

function report(totals: Totals): number {
  say("");
  for (const name of totals.failures) say(`FAILED  ${name}`);
  const missing = totals.missing;
  for (const { name, reason } of missing) say(`SKIPPED ${name}: ${reason}`);
  const red = missing.length > 0 && Boolean(process.env.CI) && process.env.CI !== "false";
  if (red) say("A tool is missing, and CI must run every suite: this run counts as failed");
  const nothing = totals.passed === 0;
  if (nothing) say("No test passed");
  const skipped = totals.skipped > 0 ? `, ${totals.skipped} skipped` : "";
  say(`${totals.passed} passed, ${totals.failed} failed${skipped}`);
  return totals.failed > 0 || red || nothing ? 1 : 0;
}

process.exitCode = await main(process.argv.slice(2));
