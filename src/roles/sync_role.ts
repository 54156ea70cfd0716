/** Starts the sync role's loops: two for each polled table, and one that lets sync_state follow the broker. */
import type { SyncSource } from "../core/sync_source.ts";
import { runPoller } from "../sync/poller.ts";
import { runProgress } from "../sync/progress.ts";
import type { SyncRequests } from "../sync/requests.ts";
import type { Engine } from "./engine.ts";

/** With kill -9 this bounds the pause until another process's timer goes on. */
const LEASE_MS = 6_000;

export function syncRole(
  engine: Omit<Engine, "broker">,
  source: SyncSource,
  requests: SyncRequests,
  signal: AbortSignal,
): readonly Promise<void>[] {
  const { config, status, metrics, logger, clock, owner } = engine;
  const polls = config.non_critical_tables.flatMap((table) => {
    const request = requests.all.find((one) => one.table === table.name);
    if (!request) throw new RangeError(`Nobody can ask for table ${table.name}`);
    const { name } = table;
    status.sync(name, {});
    return runPoller(
      {
        table: {
          name,
          intervalMs: table.sync_interval,
          compareEveryMs: table.delete_check_interval,
          overlapMs: config.sync.overlap,
          batchSize: config.sync.batch_size,
        },
        source,
        request,
        owner,
        leaseMs: LEASE_MS,
        clock,
        logger,
        health: { poll: status.health(`sync of ${name}`), timer: status.health(`timer of ${name}`) },
        onRun: (rows, milliseconds) => {
          metrics.syncRuns.inc({ table: name });
          metrics.syncRows.inc({ table: name }, rows);
          metrics.syncSeconds.set({ table: name }, milliseconds / 1_000);
          if (rows > 0)
            logger.info({ table: name, rows, ms: Math.round(milliseconds) }, `${name}: polled, ${rows} changes`);
        },
        onSchedule: (next) => status.sync(name, { next_sync: next === null ? null : new Date(next).toISOString() }),
      },
      signal,
    );
  });
  const progress = runProgress(
    {
      source,
      tables: requests.tables,
      clock,
      logger,
      health: status.health("sync state"),
      onState: ({ table, confirmedRun, lastRun, rows, running }) =>
        status.sync(table, { last_sync: confirmedRun, last_run: lastRun, last_rows: rows, polling: running }),
    },
    signal,
  );
  return [...polls, progress];
}
