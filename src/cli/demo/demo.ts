/**
 * `replicator demo`: the main job on one machine in one process. Two PostgreSQL, the memory broker, a generator writing at
 * both contours, a live screen; then the load stops, the contours drain, and hashes prove them equal.
 */
import { chmodSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { MemoryHub } from "../../../adapters/memory/hub.ts";
import { openAdmin } from "../../../adapters/postgres/admin/admin.ts";
import { type Database, openDatabase } from "../../../adapters/postgres/connection.ts";
import { loadConfig } from "../../config/load.ts";
import type { Admin, GeneratorTotals } from "../../core/admin.ts";
import { systemClock } from "../../core/clock.ts";
import { ReplicatorError } from "../../core/errors.ts";
import type { Logger } from "../../core/logger.ts";
import { Closers } from "../../core/service.ts";
import type { ProcessStatus } from "../../process_status.ts";
import { run } from "../../run.ts";
import { type EmbeddedServer, findPostgres, startEmbedded } from "./embedded_postgres.ts";
import { demoFolder, removeLeftovers, watchFolder } from "./leftovers.ts";
import { compare, type Proof, proofText } from "./proof.ts";
import { type ContourView, Screen } from "./screen.ts";

export interface DemoOptions {
  readonly seconds: number;
  /** Row changes a second at each contour. */
  readonly rate: number;
  readonly version: string;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** For people: lines and the screen. */
  write(text: string): void;
  /** Redraw in place; else a line every few seconds. */
  readonly terminal: boolean;
}

const CONTOURS = ["a", "b"] as const;
const TABLES = ["users", "payments"];
const DRAIN_TIMEOUT_MS = 60_000;
const REFRESH_MS = 500;

interface Site {
  readonly name: string;
  readonly server: EmbeddedServer;
  readonly admin: Admin;
  readonly database: Database;
  status: ProcessStatus | null;
  totals: GeneratorTotals;
}

/** Returns the proof, or null when it was interrupted. @throws ReplicatorError; everything is cleaned up on every path */
export async function runDemo(options: DemoOptions): Promise<Proof | null> {
  const { signal, logger, write } = options;
  const closers = new Closers();
  const stop = new AbortController();
  // The terminal was closed. Not for every command: under nohup a service must live on.
  const hangUp = () => stop.abort();
  process.once("SIGHUP", hangUp);
  const until = AbortSignal.any([signal, stop.signal]);
  try {
    const sites = await openSites(closers, { ...options, signal: until });
    if (until.aborted) return null;
    const running = startReplicators(sites, options, until, () => stop.abort());
    closers.add("replicators", async () => {
      stop.abort();
      await running.ended;
    });
    await running.started;
    write(
      `\nLook inside while it runs:\n${sites.map(({ name, server }) => `  psql ${server.url}   # contour ${name}`).join("\n")}\n\n`,
    );
    await underLoad(sites, options, until);
    running.check();
    if (until.aborted) return null;
    write("\nThe load has stopped; waiting until both contours have drained …\n");
    const proof = await drained(sites, until);
    running.check();
    if (proof) write(`\n${proofText(proof)}\n`);
    return proof;
  } finally {
    logger.debug({}, "cleaning up the demo");
    stop.abort();
    await closers.close();
    process.off("SIGHUP", hangUp);
  }
}

async function openSites(closers: Closers, options: DemoOptions): Promise<Site[]> {
  const { write, signal, logger } = options;
  const home = findPostgres();
  for (const left of await removeLeftovers(tmpdir())) write(`Removed what a demo that was killed had left: ${left}\n`);
  const folder = demoFolder(tmpdir());
  // The servers run as another user when we are root.
  chmodSync(folder, 0o755);
  const watchdog = watchFolder(folder);
  closers.add("watchdog", () => watchdog.close());
  closers.add("folder", () => rmSync(folder, { recursive: true, force: true }));
  // A second Ctrl-C ends at once.
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const sites: Site[] = [];
  for (const name of CONTOURS) {
    if (signal.aborted) break;
    write(`Starting PostgreSQL of contour ${name} …\n`);
    const server = await startEmbedded(home, folder, name);
    closers.add(`PostgreSQL ${name}`, () => server.stop());
    const admin = openAdmin({ url: server.url, logger });
    closers.add(`admin ${name}`, () => admin.close());
    const database = openDatabase({ url: server.url, applicationName: "replicator_demo", logger });
    closers.add(`database ${name}`, () => database.close());
    const columns = { version: "version", updated_at: "updated_at", updated_by: "updated_by" };
    await admin.setup({ contour: name, compatSchema: "public", columns }, signal);
    await admin.prepareGenerator(signal);
    sites.push({ name, server, admin, database, status: null, totals: { inserted: 0, updated: 0, deleted: 0 } });
  }
  return sites;
}

function startReplicators(sites: readonly Site[], options: DemoOptions, signal: AbortSignal, onFailure: () => void) {
  const hub = new MemoryHub();
  const failures: unknown[] = [];
  const started: Promise<void>[] = [];
  const ended = sites.map((site) => {
    const { config } = loadConfig({
      environment: {
        SERVICE_CONTOUR: site.name,
        DATABASE_URL: site.server.url,
        BROKER: "memory",
        CONSUMER_FROM: CONTOURS.filter((name) => name !== site.name).join(","),
        API_PORT: "0",
      },
      needs: { run: true },
    });
    let running: Promise<void> = Promise.resolve();
    started.push(
      new Promise((resolve, reject) => {
        const onStarted = ({ status }: { status: ProcessStatus }) => {
          site.status = status;
          resolve();
        };
        const { version, logger } = options;
        running = run({ config, version, logger: logger.child({ contour: site.name }), signal, hub, onStarted });
        // Ended before it began: a failure, or the user's Ctrl-C.
        running.then(resolve, (error: unknown) => {
          failures.push(error);
          reject(error);
          onFailure();
        });
      }),
    );
    return running;
  });
  return {
    started: Promise.all(started),
    ended: Promise.allSettled(ended),
    /** @throws what ended a replicator */
    check: () => {
      if (failures.length > 0) throw failures[0];
    },
  };
}

async function underLoad(sites: readonly Site[], options: DemoOptions, signal: AbortSignal): Promise<void> {
  const { seconds, rate, write, terminal } = options;
  const screen = new Screen({ write, terminal, seconds });
  const load = new AbortController();
  const loadSignal = AbortSignal.any([signal, load.signal]);
  const generators = sites.map((site) => {
    const onProgress = (totals: GeneratorTotals) => {
      site.totals = totals;
    };
    return site.admin.generate({ rate, connections: 2, onProgress }, loadSignal);
  });
  const startedAt = performance.now();
  try {
    while (!signal.aborted) {
      const elapsed = (performance.now() - startedAt) / 1_000;
      screen.draw(elapsed, await Promise.all(sites.map(viewOf)));
      if (elapsed >= seconds) break;
      await systemClock.sleep(Math.min(REFRESH_MS, Math.max(1, (seconds - elapsed) * 1_000)), signal);
    }
  } finally {
    load.abort();
    await Promise.all(generators);
  }
}

async function viewOf(site: Site): Promise<ContourView> {
  const report = await site.status?.status();
  const [row] = await site.database.query<{ users: string; payments: string }>(
    "SELECT (SELECT count(*) FROM public.users) AS users, (SELECT count(*) FROM public.payments) AS payments",
  );
  const { inserted, updated, deleted } = site.totals;
  return {
    contour: site.name,
    users: Number(row?.users ?? 0),
    payments: Number(row?.payments ?? 0),
    written: inserted + updated + deleted,
    replicated: report?.records_replicated ?? 0,
    unpublished: report?.unpublished ?? 0,
    lagSeconds: report?.lag_seconds ?? 0,
    parked: report?.parked ?? 0,
  };
}

async function drained(sites: readonly Site[], signal: AbortSignal): Promise<Proof | null> {
  const deadline = performance.now() + DRAIN_TIMEOUT_MS;
  for (;;) {
    const proof = await compare(
      sites.map(({ name, database }) => ({ contour: name, database })),
      TABLES,
    );
    const waiting = await Promise.all(sites.map(async ({ status }) => (await status?.status())?.unpublished ?? 0));
    if (proof.equal && waiting.every((count) => count === 0)) return proof;
    if (signal.aborted) return null;
    if (performance.now() > deadline) {
      throw new ReplicatorError({
        code: "demo.not_equal",
        message: `The contours are not equal ${DRAIN_TIMEOUT_MS / 1_000} s after the load has stopped (${waiting.join(" and ")} changes unpublished)`,
        retry: "never",
        fault: "internal",
        remedy: "Run it again with --log-level debug and send the log with a report",
      });
    }
    await systemClock.sleep(200, signal);
  }
}
