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
import { channelNameOf, tablesOf } from "./config/tables.ts";
import { targetConfig } from "./config/target.ts";
import { Backoff } from "./core/backoff.ts";
import { type Clock, systemClock } from "./core/clock.ts";
import { isAbort, ReplicatorError } from "./core/errors.ts";
import type { Logger } from "./core/logger.ts";
import { Loops } from "./core/loop.ts";
import { Metrics } from "./core/metrics.ts";
import { Closers } from "./core/service.ts";
import { staleTable } from "./core/stale_table.ts";
import { startDirect } from "./direct_start.ts";
import { guardMemory } from "./memory_guard.ts";
import { Outages, type ServerKind } from "./outages.ts";
import { NO_COUNTS, ProcessStatus, type StoreCounts } from "./process_status.ts";
import { openAdministration, openBroker, openSource, openSync, openTarget } from "./registry.ts";
import { consumerRole } from "./roles/consumer_role.ts";
import type { Engine } from "./roles/engine.ts";
import { publisherRole } from "./roles/publisher_role.ts";
import { syncRole } from "./roles/sync_role.ts";
import { SyncRequests } from "./sync/requests.ts";

export interface RunOptions {
  readonly config: Config;
  readonly version: string;
  readonly logger: Logger;
  /** Its abort is the graceful stop. */
  readonly signal: AbortSignal;
  readonly clock?: Clock;
  /** The memory brokers of one process share it (demo). */
  readonly hub?: MemoryHub;
  /** Takes what is to be done on SIGHUP. */
  onHangup?(listener: () => void): void;
  /** Called when all loops run. */
  onStarted?(started: { readonly port: number; readonly status: ProcessStatus }): void;
}

const PROBE_EVERY_MS = 1_000;
const PROBE_DEADLINE_MS = 3_000;
/** Parts of service.shutdown_timeout: for the loops to finish, then for the connections to close. */
const FINISHING = 0.5;
const CLOSING = 0.3;

/**
 * Runs the configured roles until the signal aborts, then stops gracefully and logs the totals.
 * @throws ReplicatorError what waiting cannot mend: refused credentials, missing objects, a broken history
 */
export async function run(options: RunOptions): Promise<void> {
  const { config, version } = options;
  const outages = new Outages();
  const logger = outages.once(options.logger);
  const clock = options.clock ?? systemClock;
  const closers = new Closers();
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const metrics = new Metrics({ contour: config.service.contour, service: config.service.name });
  const status = new ProcessStatus({
    config,
    version,
    clock,
    tables: tablesOf(config).map((table) => ({
      table: table.name,
      channel: channelNameOf(table),
      conflict: table.conflict,
      mode: table.capture === "none" ? ("periodic" as const) : ("trigger" as const),
    })),
    counts: async () => NO_COUNTS,
    metricsText: (report) => metrics.text(report),
  });
  const loops = new Loops(signal, () => stop.abort());
  onAbort(signal, () => {
    status.starting = "stopping";
    logger.info({ replicated: status.replicated }, "stopping: finishing what is under way");
  });
  const requests = new SyncRequests(
    config.roles.includes("sync") ? config.non_critical_tables.map(({ name }) => name) : [],
  );
  options.onHangup?.(() => {
    logger.info(
      { tables: requests.tables },
      requests.tables.length > 0 ? "SIGHUP: polling all tables now" : "SIGHUP: this process polls no table",
    );
    requests.askAll();
  });
  const work = async () => {
    const api = await startApi({ ...config.api, source: status, sync: requests, logger });
    closers.add("api", () => api.close());
    logger.info({ api: api.url, roles: config.roles }, "starting");
    const owner = `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`;
    const engine: Unjoined = { config, status, metrics, logger, clock, owner };
    const watch: Watch = (kind, name, ping) => loops.add(watchServer({ engine, outages, kind, name, ping }, signal));
    loops.add(guardMemory(clock, signal));
    if (config.broker === "direct") {
      const targetLogger = outages.once(options.logger, "target");
      const wait = <T>(server: string, step: () => Promise<T>) => waitFor(engine, server, step, signal);
      const start = { engine, targetLogger, loops, closers, watch, waitFor: wait };
      const counts = await startDirect(start, signal);
      status.counts = async () => ({ ...NO_COUNTS, ...(await counts()) });
    } else {
      const broker = openBroker(config, { logger, clock, hub: options.hub });
      closers.add("broker", () => broker.close());
      watch("broker", `broker (${config.broker})`, (until) => broker.ping(until));
      await startRoles({ ...engine, broker }, { loops, closers, watch }, signal);
    }
    if (config.roles.includes("sync")) {
      const polls = openSync(config, logger.child({ role: "sync" }), clock);
      closers.add("polls", () => polls.close());
      loops.add(...syncRole(engine, polls, requests, signal));
    }
    if (!signal.aborted) {
      status.starting = null;
      logger.info({ roles: config.roles, broker: config.broker }, "running");
      for (const site of [config, targetConfig(config)]) if (site) loops.add(tellStaleTables(site, logger, signal));
      options.onStarted?.({ port: api.port, status });
    }
    await loops.ended();
  };
  const { shutdown_timeout } = config.service;
  try {
    await Promise.race([work(), overdue(clock, signal, shutdown_timeout * FINISHING)]);
    loops.throwIfFailed();
  } catch (error) {
    stop.abort();
    loops.throwIfFailed();
    if (!options.signal.aborted || !isAbort(error)) throw error;
  } finally {
    // A server that does not answer must not keep us: closing ends the calls to it, the process's end what is left (I8).
    await Promise.race([closers.close(), clock.sleep(shutdown_timeout * CLOSING)]);
    logger.info({ replicated: status.replicated }, "stopped; total of changes published or applied by this process");
  }
}

/** Resolves `ms` after the signal has aborted. */
async function overdue(clock: Clock, signal: AbortSignal, ms: number): Promise<void> {
  await new Promise<void>((resolve) => onAbort(signal, resolve));
  await clock.sleep(ms);
}

function onAbort(signal: AbortSignal, listener: () => void): void {
  if (signal.aborted) listener();
  else signal.addEventListener("abort", () => listener(), { once: true });
}

/** What the roles share, before it is known what joins the contours. */
type Unjoined = Omit<Engine, "broker">;

/** Begins to ask a server every second whether it answers. */
type Watch = (kind: ServerKind, name: string, ping: (signal: AbortSignal) => Promise<void>) => void;

interface Started {
  readonly loops: Loops;
  readonly closers: Closers;
  readonly watch: Watch;
}

/** Opens the stores of the roles and starts their loops. Waits for the database for ever. */
async function startRoles(engine: Engine, { loops, closers, watch }: Started, signal: AbortSignal): Promise<void> {
  const { config, status, logger, clock } = engine;
  const counts: (() => Promise<Partial<StoreCounts>>)[] = [];
  if (config.roles.includes("publisher") || config.roles.includes("sync")) {
    const store = openSource(config, logger.child({ role: "publisher" }), clock);
    closers.add("source store", () => store.close());
    watch("database", "database", (until) => store.ping(until));
    const { epoch } = await waitFor(engine, "database", () => store.open(signal), signal);
    counts.push(() => store.backlog());
    counts.push(async () => ({ snapshots: await store.snapshots() }));
    loops.add(
      ...(await waitFor(
        engine,
        "database",
        () => publisherRole(engine, store, epoch, signal, sendsOf(config)),
        signal,
      )),
    );
  }
  if (config.roles.includes("consumer")) {
    const store = openTarget(config, logger.child({ role: "consumer" }), clock);
    closers.add("target store", () => store.close());
    watch("database", "target database", (until) => store.ping(until));
    await waitFor(engine, "target database", () => store.open(signal), signal);
    counts.push(() => store.counts());
    loops.add(consumerRole(engine, store, signal));
  }
  status.counts = async () => Object.assign({}, NO_COUNTS, ...(await Promise.all(counts.map((count) => count()))));
}

/** A process that only polls sends what it polls, and leaves the rest to publishers. */
function sendsOf({
  roles,
  non_critical_tables,
}: Config): ((channel: { readonly name: string }) => boolean) | undefined {
  if (roles.includes("publisher")) return undefined;
  return ({ name }) => non_critical_tables.some(({ topic }) => topic === name);
}

/** Tries a step of the start until its server lets it through. @throws what waiting cannot mend, the signal's reason */
async function waitFor<T>(engine: Unjoined, server: string, step: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const { status, clock, logger } = engine;
  const backoff = new Backoff({ firstMs: 100, maxMs: 2 * PROBE_EVERY_MS });
  for (;;) {
    signal.throwIfAborted();
    status.starting = `waiting for the ${server}`;
    try {
      return await step();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ReplicatorError) || error.retry === "never") throw error;
      const facts = { server, code: error.code, reason: error.message };
      logger[backoff.attempts === 0 ? "warn" : "debug"](facts, `cannot start yet, waiting for the ${server}`);
    }
    await clock.sleep(backoff.next(), signal);
  }
}

/** Changes of a table whose functions no longer fit may be captured in a slower form, or not at all: worth a line each. */
async function tellStaleTables(config: Config, logger: Logger, signal: AbortSignal): Promise<void> {
  const admin = openAdministration(config, logger, 1);
  try {
    for (const state of await admin.listTables(signal)) {
      const finding = staleTable(state);
      if (finding) logger.warn({ code: finding.code, table: state.table, remedy: finding.remedy }, finding.message);
    }
  } catch (error) {
    // The loops find out for themselves what is wrong with the database.
    if (!(error instanceof ReplicatorError)) throw error;
    logger.debug({ code: error.code, reason: error.message }, "cannot look for tables whose functions are stale");
  } finally {
    await admin.close();
  }
}

interface Watched {
  readonly engine: Unjoined;
  readonly outages: Outages;
  readonly kind: ServerKind;
  readonly name: string;
  ping(signal: AbortSignal): Promise<void>;
}

/** Asks a server every second whether it answers; /ready tells. Refused credentials end the run. */
async function watchServer({ engine, outages, kind, name, ping }: Watched, signal: AbortSignal): Promise<void> {
  const { status, clock, logger } = engine;
  const backoff = new Backoff({ firstMs: PROBE_EVERY_MS, maxMs: 2 * PROBE_EVERY_MS });
  let away = false;
  while (!signal.aborted) {
    try {
      await ping(AbortSignal.any([signal, AbortSignal.timeout(PROBE_DEADLINE_MS)]));
      if (outages.over(kind)) logger.info({ server: name }, `${name} answers again`);
      away = false;
      status.server(name, null);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ReplicatorError && error.retry === "never") throw error;
      const reason = error instanceof Error && !isTimeout(error) ? error.message : "does not answer";
      const first = outages.tell(kind);
      logger[first ? "warn" : "debug"]({ server: name, reason }, `${name} does not answer, waiting for it`);
      away = true;
      status.server(name, reason);
    }
    await clock.sleep(away ? backoff.next() : PROBE_EVERY_MS, signal);
  }
}

function isTimeout(error: Error): boolean {
  return error.name === "TimeoutError" || isAbort(error);
}
