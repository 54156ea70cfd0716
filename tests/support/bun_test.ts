/** Runs one suite with `bun test` and reads its JUnit report. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../tools/cache.mjs";
import type { Skip, Suite, Totals } from "./plan.ts";

const TIMEOUT_MS = 240_000;
const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** @param folder where the reports are written */
export async function runBunTest(suite: Suite, folder: string): Promise<Totals> {
  const report = join(folder, `${suite.name}.xml`);
  const skips = join(folder, `${suite.name}.skips`);
  const options = [`--timeout=${TIMEOUT_MS}`, "--reporter=junit", `--reporter-outfile=${report}`];
  const child = spawn(process.execPath, ["test", ...options, ...suite.files], {
    cwd: ROOT,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, REPLICATOR_SKIPS: skips },
  });
  const forward = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of FORWARDED) process.on(signal, forward);
  const code = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
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
    ...(unseen ? { failed: 1, failures: [`${suite.name}: bun test ended with ${code}, see above`] } : {}),
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
  return { passed, failed, skipped, failures, missing: [] };
}

function attribute(text: string, name: string): string {
  const value = new RegExp(`\\b${name}="([^"]*)"`).exec(text)?.[1] ?? "";
  const entities: Record<string, string> = { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&amp;": "&" };
  return value.replace(/&(lt|gt|quot|apos|amp);/g, (entity) => entities[entity] ?? entity);
}
