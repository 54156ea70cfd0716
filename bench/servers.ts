/** The real servers of the bench, and where their processes are. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { BrokerConfig } from "../tests/e2e/harness.ts";
import { type BrokerKind, brokerConfig } from "../tests/e2e/pair.ts";
import { type PostgresMajor, type PostgresServer, startPostgres } from "../tests/servers/postgres.ts";
import { kafkaLibs, natsServer, postgresHome, which } from "../tools/cache.mjs";
import { childrenOf, type Watched } from "./usage.ts";

/** The one that `bun run bench` fetches. */
export const MAJOR: PostgresMajor = 17;

/** Over the defaults of the tests' servers; fsync stays on, so what is confirmed is kept. */
export const SETTINGS = {
  shared_buffers: "256MB",
  max_wal_size: "4GB",
  checkpoint_timeout: "30min",
} as const;

export async function startServer(): Promise<PostgresServer> {
  return await startPostgres({ major: MAJOR, settings: SETTINGS });
}

/** A server with all its backends. */
export function watchServer(server: PostgresServer): Watched {
  const pid = Number(readFileSync(join(server.dataDir, "postmaster.pid"), "utf8").split("\n")[0]);
  return { pid, tree: true };
}

interface RunningBroker {
  readonly config: BrokerConfig;
  readonly watched: Watched;
}

const brokers = new Map<BrokerKind, Promise<RunningBroker>>();

/** One broker of a kind for the whole run, started when it is first needed. */
export function broker(kind: BrokerKind): Promise<RunningBroker> {
  const known = brokers.get(kind);
  if (known) return known;
  const started = startBroker(kind);
  brokers.set(kind, started);
  return started;
}

async function startBroker(kind: BrokerKind): Promise<RunningBroker> {
  const before = new Set(childrenOf(process.pid));
  const config = await brokerConfig(kind);
  const pid = childrenOf(process.pid).find((child) => !before.has(child));
  if (pid === undefined) throw new Error(`The process of ${kind} is not among the children of the bench`);
  return { config, watched: { pid, tree: false } };
}

/** What is missing on this machine to run with these brokers: one line each. */
export function missing(kinds: ReadonlySet<BrokerKind>): string[] {
  const lines: string[] = [];
  if (process.platform !== "linux") lines.push("processor time and memory are read from /proc: the bench needs Linux");
  if (!existsSync(postgresHome(MAJOR))) lines.push(`PostgreSQL ${MAJOR}: node tools/bootstrap.mjs postgres:${MAJOR}`);
  if (kinds.has("nats") && !existsSync(natsServer())) lines.push("NATS: node tools/bootstrap.mjs nats");
  if (kinds.has("kafka") && !(existsSync(kafkaLibs()) && which("java")))
    lines.push("Kafka, which needs Java: node tools/bootstrap.mjs kafka");
  return lines;
}
