/** Runs one task with `bun test` and reads its JUnit report. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../tools/cache.mjs";
import { RUN_MARK } from "./leftovers.ts";
import { none, type Skip, type Task, type Totals } from "./plan.ts";

const TIMEOUT_MS = 240_000;
const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * @param folder where the reports are written
 * @param mark names the processes that the task starts and their children
 * @returns its totals, and all it printed
 */
export async function runBunTest(task: Task, folder: string, mark: string): Promise<Totals & { output: string }> {
  const report = join(folder, `${mark}.xml`);
  const skips = join(folder, `${mark}.skips`);
  const options = [`--timeout=${TIMEOUT_MS}`, "--reporter=junit", `--reporter-outfile=${report}`];
  const child = spawn(process.execPath, ["test", ...options, ...task.files], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, REPLICATOR_SKIPS: skips, [RUN_MARK]: mark },
  });
  const printed: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => printed.push(data));
  const forward = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of FORWARDED) process.on(signal, forward);
  const code = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    // not "close": a process left behind may hold the pipes open
    child.once("exit", (status) => resolve(status ?? 1));
  });
  for (const signal of FORWARDED) process.off(signal, forward);
  const totals = readJunit(existsSync(report) ? readFileSync(report, "utf8") : "");
  const missing = existsSync(skips) ? readSkips(readFileSync(skips, "utf8")) : [];
  // A file that cannot be loaded, or a hook that throws, fails the process without a failed test case.
  const unseen = code !== 0 && totals.failed === 0;
  return {
    ...totals,
    missing,
    output: Buffer.concat(printed).toString("utf8"),
    ...(unseen ? { failed: 1, failures: [`${task.name}: bun test ended with ${code}, see above`] } : {}),
  };
}

function readSkips(lines: string): Skip[] {
  return lines
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Skip);
}

/** Counts the cases of a JUnit report as Bun writes it. */
export function readJunit(xml: string): Totals {
  let [passed, failed, skipped] = [0, 0, 0];
  const failures: string[] = [];
  for (const [, attributes = "", body = ""] of xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>(.*?)<\/testcase>)/gs)) {
    if (/<(failure|error)\b/.test(body)) {
      failed++;
      failures.push(
        [attribute(attributes, "file"), attribute(attributes, "classname"), attribute(attributes, "name")].join(" › "),
      );
    } else if (/<skipped\b/.test(body)) skipped++;
    else passed++;
  }
  return { ...none, passed, failed, skipped, failures };
}

function attribute(text: string, name: string): string {
  const value = new RegExp(`\\b${name}="([^"]*)"`).exec(text)?.[1] ?? "";
  const entities: Record<string, string> = { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&amp;": "&" };
  return value.replace(/&(lt|gt|quot|apos|amp);/g, (entity) => entities[entity] ?? entity);
}
