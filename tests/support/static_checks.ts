/** What is checked without running the program. Each check counts as one test. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { ROOT } from "../../tools/cache.mjs";
import { none, type Totals } from "./plan.ts";

const CHECKS: readonly { readonly name: string; readonly program: string; readonly args: readonly string[] }[] = [
  { name: "format and lint (biome)", program: "biome", args: ["check", "--error-on-warnings"] },
  { name: "types (tsc)", program: "tsc", args: ["--pretty", "false"] },
  { name: "types under Deno (deno check)", program: "deno", args: ["check", "--quiet", "src/main.ts"] },
];

/** Runs the checks and prints what each has found. */
export function runStatic(): Totals {
  let totals: Totals = none;
  for (const { name, program, args } of CHECKS) {
    const path = join(ROOT, "node_modules", ".bin", program);
    const done = spawnSync(path, [...args], { cwd: ROOT, encoding: "utf8", env: { ...process.env, NO_COLOR: "1" } });
    const ok = done.status === 0;
    process.stdout.write(`${ok ? "(pass)" : "(fail)"} ${name}\n`);
    if (!ok) process.stdout.write(`${done.error?.message ?? ""}${done.stdout ?? ""}${done.stderr ?? ""}\n`);
    totals = ok
      ? { ...totals, passed: totals.passed + 1 }
      : { ...totals, failed: totals.failed + 1, failures: [...totals.failures, name] };
  }
  return totals;
}
