/** What the figures were taken on. */
import { cpus, loadavg, release, totalmem } from "node:os";
import { VERSION } from "../src/core/version.ts";
import { KAFKA, NATS_SERVER, POSTGRES } from "../tools/versions.mjs";
import { MAJOR } from "./servers.ts";
import type { Machine } from "./types.ts";

export function describeMachine(program: Machine["program"]): Machine {
  return {
    processors: cpus().length,
    model: cpus()[0]?.model ?? "unknown",
    memory_gb: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    load_before: Math.round((loadavg()[0] ?? 0) * 100) / 100,
    versions: {
      replicator: VERSION,
      bun: Bun.version,
      postgresql: POSTGRES[MAJOR].split("-")[0] ?? "",
      kafka: KAFKA,
      "nats-server": NATS_SERVER,
    },
    program,
  };
}

/** Above this load average somebody else was at work when the run began. */
export const QUIET_LOAD = 0.5;
