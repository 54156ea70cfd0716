/** Finds the workloads: every file of bench/workloads is one. */
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import type { Workload } from "./types.ts";

const FOLDER = join(import.meta.dir, "workloads");

/** In the order of their names. @throws TypeError when a file is none */
export async function loadWorkloads(): Promise<Workload[]> {
  const files = readdirSync(FOLDER)
    .filter((file) => file.endsWith(".ts"))
    .sort();
  return await Promise.all(
    files.map(async (file) => {
      const module: unknown = await import(join(FOLDER, file));
      const found = typeof module === "object" && module !== null && "workload" in module ? module.workload : undefined;
      if (!isWorkload(found) || found.name !== basename(file, ".ts")) {
        throw new TypeError(`bench/workloads/${file} must export a workload of its own name`);
      }
      return found;
    }),
  );
}

function isWorkload(value: unknown): value is Workload {
  return value instanceof Object && "name" in value && "measure" in value && "on" in value;
}
