/**
 * Runs histories. `SEED=7 bun tests/simulation/run.ts` plays one and prints its trace; `HISTORIES=1000000` plays that many
 * from seed FROM on (1), JOBS of them side by side, and prints what they came to; `FAULT="no floor"` plants a fault; `NARROWING='{…}'` narrows the
 * profile as a report of a failure prints it; `--planted` hunts every fault and writes docs/planted_faults.md.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { runHistory } from "./history.ts";
import { FAULTS, faultNamed } from "./planted/faults.ts";
import { hunt } from "./planted/hunt.ts";
import { pageOf } from "./planted/page.ts";
import type { Planted } from "./planted/planted.ts";
import type { Narrowing } from "./profile.ts";
import { shrink } from "./shrink.ts";
import { Tally } from "./tally.ts";

/** Histories of one worker before the next one is started: long enough that compiling the code again does not matter. */
const CHUNK = 10_000;
/** Histories between two collections of garbage; a history of so many changes is followed by one at once. */
const COLLECT_EVERY = 100;
const MANY_CHANGES = 400;
/** Histories that each planted fault may take. */
const MOST_TO_CATCH = 2_000;
const say = (text: string) => process.stdout.write(`${text}\n`);

const { SEED, HISTORIES, FROM, JOBS, FAULT, NARROWING } = process.env;

/** @throws RangeError */
function count(name: string, text: string | undefined, otherwise: number): number {
  const value = Number(text || otherwise);
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${name} is "${text}", expected a whole number`);
  return value;
}

const planted: Planted = FAULT ? faultNamed(FAULT) : {};
const narrowing: Narrowing = NARROWING ? JSON.parse(NARROWING) : {};

function playOne(seed: number): number {
  const { failure, profile, trace, steps, milliseconds } = runHistory({ seed, narrowing, planted, traced: true });
  say(`profile ${JSON.stringify(profile)}`);
  for (const line of trace) say(line);
  say(`${steps} events in ${(milliseconds / 1_000).toFixed(1)} virtual seconds`);
  say(failure ? `FAILED ${failure.check}: ${failure.found}` : "passed");
  return failure ? 1 : 0;
}

function report(seed: number): void {
  const failing = runHistory({ seed, narrowing, planted });
  if (!failing.failure) return;
  say(`FAILED seed ${seed}, check "${failing.failure.check}": ${failing.failure.found}`);
  const small = shrink(seed, failing, planted);
  const fault = FAULT ? `FAULT='${FAULT}' ` : "";
  say(`shrunk: ${fault}SEED=${seed} NARROWING='${JSON.stringify(small.narrowing)}' bun tests/simulation/run.ts`);
  for (const line of small.outcome.trace) say(line);
}

/** Plays seeds one after the other; the first that fails is reported. Tells the parent process what they came to. */
function playHere(from: number, histories: number): number {
  const tally = new Tally();
  let code = 0;
  for (let seed = from; seed < from + histories && code === 0; seed++) {
    const outcome = runHistory({ seed, narrowing, planted });
    tally.take(outcome.tally);
    // Left to itself the runtime lets garbage grow to a gigabyte or two before it collects any.
    if (outcome.changes > MANY_CHANGES || seed % COLLECT_EVERY === 0) Bun.gc(true);
    if (!outcome.failure) continue;
    report(seed);
    code = 1;
  }
  if (process.send) process.send(tally.counts);
  else say(tally.report);
  return code;
}

async function playMany(from: number, histories: number, jobs: number): Promise<number> {
  const began = performance.now();
  const tally = new Tally();
  const under = new Set<number>();
  const chunk = Math.min(CHUNK, Math.ceil(histories / jobs));
  let next = from;
  let failed = 0;
  const worker = async () => {
    while (next < from + histories && failed === 0) {
      const first = next;
      const some = Math.min(chunk, from + histories - first);
      next += some;
      under.add(first);
      const { code, counts } = await playElsewhere(first, some);
      tally.take(counts);
      if (code !== 0) {
        failed++;
        break;
      }
      under.delete(first);
      const rate = (tally.of("histories") / (performance.now() - began)) * 1_000;
      const upTo = Math.min(next, ...under) - 1;
      say(`seeds ${from} to ${upTo} pass, ${rate.toFixed(0)} histories/s. ${tally.report}`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  const hours = ((performance.now() - began) / 3_600_000).toFixed(1);
  say(`${failed > 0 ? "FAILED" : "PASSED"} seeds ${from} to ${from + histories - 1}, ${hours} hours. ${tally.report}`);
  return failed > 0 ? 1 : 0;
}

function playElsewhere(from: number, histories: number): Promise<{ readonly code: number; readonly counts: Tally }> {
  const env = { ...process.env, SEED: "", HISTORIES: String(histories), FROM: String(from), JOBS: "0" };
  const child = spawn(process.execPath, [import.meta.path], { env, stdio: ["ignore", "inherit", "inherit", "ipc"] });
  let counts = new Tally();
  child.on("message", (message) => {
    counts = Tally.of(message);
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code: code ?? 1, counts }));
  });
}

function huntAll(): number {
  const hunted = FAULTS.map((fault) => {
    const one = hunt(fault, MOST_TO_CATCH);
    say(`${fault.name}: ${one.failure?.check ?? "NOT CAUGHT"}, ${one.histories} histories`);
    return one;
  });
  writeFileSync(join(import.meta.dir, "..", "..", "docs", "planted_faults.md"), pageOf(hunted));
  return hunted.every(({ failure, clean, fault }) => failure && !clean && fault.caughtBy.includes(failure.check))
    ? 0
    : 1;
}

async function main(): Promise<number> {
  if (process.argv.includes("--planted")) return huntAll();
  if (SEED) return playOne(count("SEED", SEED, 1));
  const [from, histories] = [count("FROM", FROM, 1), count("HISTORIES", HISTORIES, 1_000)];
  const jobs = count("JOBS", JOBS, availableParallelism());
  return jobs === 0 ? playHere(from, histories) : await playMany(from, histories, jobs);
}

// Histories drive promises by themselves: they run from a timer, not from inside one.
setTimeout(() => {
  main().then(
    (code) => {
      process.exitCode = code;
    },
    (error: unknown) => {
      say(error instanceof Error ? error.message : String(error));
      process.exitCode = 2;
    },
  );
}, 0);
