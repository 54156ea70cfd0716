/** Starts the load generator and reads what it says. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { endWithUs } from "./children.ts";
import type { LoadOrder, LoadResult } from "./load.ts";

export interface RunningLoad {
  /** Transactions committed when it last said so. */
  committed(): number;
  /** @throws Error with its last words when it failed */
  readonly done: Promise<LoadResult>;
}

export function startLoad(order: LoadOrder): RunningLoad {
  const child = spawn(process.execPath, [join(import.meta.dir, "load.ts"), JSON.stringify(order)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  endWithUs(child);
  let committed = 0;
  let result: LoadResult | undefined;
  let errors = "";
  child.stderr.on("data", (data: Buffer) => {
    errors = (errors + data.toString()).slice(-4_000);
  });
  createInterface(child.stdout).on("line", (line) => {
    const said = JSON.parse(line) as { committed?: number; done?: LoadResult };
    committed = said.done?.committed ?? said.committed ?? committed;
    result = said.done ?? result;
  });
  const done = new Promise<LoadResult>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0 && result) resolve(result);
      else reject(new Error(`The load generator ended with ${code}: ${errors.trim()}`));
    });
  });
  return { committed: () => committed, done };
}
