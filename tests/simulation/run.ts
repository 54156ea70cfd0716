/**
 * Runs histories. `SEED=7 bun tests/simulation/run.ts` plays one and prints its trace; `HISTORIES=1000000` plays that many
 * from seed FROM on (1), JOBS of them side by side; `FAULT="no floor"` plants a fault; `NARROWING='{…}'` narrows the
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

/** Histories of one worker before the next one is started: a worker's memory is given back with it. */
const CHUNK = 500;
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

/** Plays seeds one after the other; the first that fails is reported. */
function playHere(from: number, histories: number): number {
  for (let seed = from; seed < from + histories; seed++) {
    if (!runHistory({ seed, narrowing, planted }).failure) continue;
    report(seed);
    return 1;
  }
  return 0;
}

async function playMany(from: number, histories: number, jobs: number): Promise<number> {
  const began = performance.now();
  let next = from;
  let done = 0;
  let failed = 0;
  const worker = async () => {
    while (next < from + histories && failed === 0) {
      const first = next;
      const some = Math.min(CHUNK, from + histories - first);
      next += some;
      const code = await playElsewhere(first, some);
      if (code !== 0) failed++;
      done += some;
      const seconds = (performance.now() - began) / 1_000;
      say(`${done} histories, ${(done / seconds).toFixed(1)}/s`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return failed > 0 ? 1 : 0;
}

function playElsewhere(from: number, histories: number): Promise<number> {
  const env = { ...process.env, SEED: "", HISTORIES: String(histories), FROM: String(from), JOBS: "0" };
  const child = spawn(process.execPath, [import.meta.path], { env, stdio: ["ignore", "inherit", "inherit"] });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? 1));
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
