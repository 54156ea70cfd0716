/**
 * Composition of one process: opens the stores and the broker, starts the loops of its roles, serves the API, and stops
 * everything in order. With registry.ts the only place that knows adapters.
 */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import process from "node:process";
import type { MemoryHub } from "../adapters/memory/hub.ts";
import { startApi } from "./api/server.ts";
import type { Config } from "./config/config.ts";
import { Backoff } from "./core/backoff.ts";
import { type Clock, systemClock } from "./core/clock.ts";
import { isAbort, ReplicatorError } from "./core/errors.ts";
import type { Logger } from "./core/logger.ts";
import { Metrics } from "./core/metrics.ts";
import { Closers } from "./core/service.ts";
import { guardMemory } from "./memory_guard.ts";
import { ProcessStatus, type StoreCounts } from "./process_status.ts";
import { openBroker, openSource, openTarget } from "./registry.ts";
import { consumerRole } from "./roles/consumer_role.ts";
import type { Engine } from "./roles/engine.ts";
import { publisherRole } from "./roles/publisher_role.ts";

export interface RunOptions {
  readonly config: Config;
  readonly version: string;
  readonly logger: Logger;
  /** Its abort is the graceful stop. */
  readonly signal: AbortSignal;
  readonly clock?: Clock;
  /** The memory brokers of one process share it (demo). */
  readonly hub?: MemoryHub;
  /** Called when all loops run. */
  onStarted?(started: { readonly port: number; readonly status: ProcessStatus }): void;
}

const PROBE_EVERY_MS = 1_000;
const PROBE_DEADLINE_MS = 3_000;
const NO_COUNTS: StoreCounts = { unpublished: 0, oldestSeconds: 0, lastQueueId: "0", parked: 0, dead: 0, conflicts: 0 };

/**
 * Runs the configured roles until the signal aborts, then stops gracefully and logs the totals.
 * @throws ReplicatorError what waiting cannot mend: refused credentials, missing objects, a broken history
 */
export async function run(options: RunOptions): Promise<void> {
  const { config, version, logger } = options;
  const clock = options.clock ?? systemClock;
  const closers = new Closers();
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const metrics = new Metrics({ contour: config.service.contour, service: config.service.name });
  const status = new ProcessStatus({
    config,
    version,
    clock,
    tables: config.critical_tables.map(({ name, topic, conflict }) => ({
      table: name,
      channel: topic ?? "changes",
      conflict,
    })),
    counts: async () => NO_COUNTS,
    metricsText: (report) => metrics.text(report),
  });
  try {
    const api = await startApi({ ...config.api, source: status, logger });
    closers.add("api", () => api.close());
    logger.info({ api: api.url, roles: config.roles }, "starting");
    const broker = openBroker(config, { logger, clock, hub: options.hub });
    closers.add("broker", () => broker.close());
    const owner = `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`;
    const engine: Engine = { config, broker, status, metrics, logger, clock, owner };
    const loops = [
      guardMemory(clock, signal),
      watchBroker(engine, signal),
      ...(await startRoles(engine, closers, signal)),
    ];
    status.starting = null;
    logger.info({ roles: config.roles, broker: config.broker }, "running");
    options.onStarted?.({ port: api.port, status });
    // The first loop that cannot go on stops the others; its error is the run's.
    await Promise.all(
      loops.map((loop) =>
        loop.catch((error: unknown) => {
          stop.abort();
          throw error;
        }),
      ),
    );
  } catch (error) {
    stop.abort();
    if (!options.signal.aborted || !isAbort(error)) throw error;
  } finally {
    status.starting = "stopping";
    await closers.close();
    logger.info({ replicated: status.replicated }, "stopped; total of changes published or applied by this process");
  }
}

/** Opens the stores of the roles and starts their loops. Waits for the database for ever. */
async function startRoles(engine: Engine, closers: Closers, signal: AbortSignal): Promise<Promise<void>[]> {
  const { config, status, logger, clock } = engine;
  const loops: Promise<void>[] = [];
  const counts: (() => Promise<Partial<StoreCounts>>)[] = [];
  if (config.roles.includes("publisher")) {
    status.starting = "waiting for the database";
    const store = openSource(config, logger.child({ role: "publisher" }), clock);
    closers.add("source store", () => store.close());
    const { epoch } = await store.open(signal);
    counts.push(() => store.backlog());
    loops.push(watch(engine, "database", (until) => store.ping(until), signal));
    loops.push(...(await publisherRole(engine, store, epoch, signal)));
  }
  if (config.roles.includes("consumer")) {
    status.starting = "waiting for the target database";
    const store = openTarget(config, logger.child({ role: "consumer" }), clock);
    closers.add("target store", () => store.close());
    await store.open(signal);
    counts.push(() => store.counts());
    loops.push(watch(engine, "target database", (until) => store.ping(until), signal));
    loops.push(consumerRole(engine, store, signal));
  }
  status.counts = async () => Object.assign({}, NO_COUNTS, ...(await Promise.all(counts.map((count) => count()))));
  return loops;
}

function watchBroker(engine: Engine, signal: AbortSignal): Promise<void> {
  return watch(engine, `broker (${engine.config.broker})`, (until) => engine.broker.ping(until), signal);
}

/** Asks a server every second whether it answers; /ready tells. Refused credentials end the run. */
async function watch(
  engine: Engine,
  name: string,
  ping: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { status, clock, logger } = engine;
  const backoff = new Backoff({ firstMs: PROBE_EVERY_MS, maxMs: 2 * PROBE_EVERY_MS });
  let away = false;
  while (!signal.aborted) {
    try {
      await ping(AbortSignal.any([signal, AbortSignal.timeout(PROBE_DEADLINE_MS)]));
      if (away) logger.info({ server: name }, `${name} answers again`);
      away = false;
      status.server(name, null);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ReplicatorError && error.retry === "never") throw error;
      const reason = error instanceof Error && !isTimeout(error) ? error.message : "does not answer";
      if (!away) logger.warn({ server: name, reason }, `${name} does not answer, waiting for it`);
      away = true;
      status.server(name, reason);
    }
    await clock.sleep(away ? backoff.next() : PROBE_EVERY_MS, signal);
  }
}

function isTimeout(error: Error): boolean {
  return error.name === "TimeoutError" || isAbort(error);
}
