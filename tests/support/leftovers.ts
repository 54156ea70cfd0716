/** Finds processes that tests have started and not ended. */
import { readdirSync, readFileSync } from "node:fs";

/** Environment variable that every process of a run inherits; its value is the run's id. */
export const RUN_MARK = "REPLICATOR_TEST_RUN";

export interface Leftover {
  readonly pid: number;
  readonly command: string;
}

/** Processes of this run other than the caller. Linux only; elsewhere none is found. */
export function leftovers(run: string): Leftover[] {
  if (process.platform !== "linux") return [];
  const found: Leftover[] = [];
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`${RUN_MARK}=${run}`)) continue;
      found.push({ pid, command: readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim() });
    } catch {
      // It ended meanwhile, or is not ours to look at.
    }
  }
  return found;
}
