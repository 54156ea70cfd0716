/** Starts direct mode: opens both databases, makes sure that they are two, and starts the loops. Waits for either for ever. */
import type { Config } from "./config/config.ts";
import { targetConfig } from "./config/target.ts";
import type { Logger } from "./core/logger.ts";
import type { Loops } from "./core/loop.ts";
import type { Closers } from "./core/service.ts";
import { combined } from "./direct/counts.ts";
import { refuseSameDatabase, refuseWrongTarget } from "./direct/same_database.ts";
import type { ServerKind } from "./outages.ts";
import type { StoreCounts } from "./process_status.ts";
import { openAdministration, openSource, openTarget } from "./registry.ts";
import { directRole } from "./roles/direct_role.ts";
import type { Engine } from "./roles/engine.ts";

export interface DirectStart {
  readonly engine: Omit<Engine, "broker">;
  /** As the engine's, for what is said about the target. */
  readonly targetLogger: Logger;
  readonly loops: Loops;
  readonly closers: Closers;
  /** Begins to ask a server every second whether it answers. */
  watch(kind: ServerKind, name: string, ping: (signal: AbortSignal) => Promise<void>): void;
  /** Tries a step until its server lets it through. */
  waitFor<T>(server: string, step: () => Promise<T>): Promise<T>;
}

/** Returns what is asked for /status. @throws ReplicatorError what waiting cannot mend */
export async function startDirect(
  start: DirectStart,
  signal: AbortSignal,
): Promise<() => Promise<Partial<StoreCounts>>> {
  const { engine, targetLogger, loops, closers, watch, waitFor } = start;
  const { config, logger, clock } = engine;
  const site = targetConfig(config);
  if (!site) throw new RangeError("Direct mode has a target");
  const source = openSource(config, logger.child({ role: "publisher" }), clock);
  closers.add("source store", () => source.close());
  const target = openTarget(site, targetLogger.child({ role: "consumer" }), clock);
  closers.add("target store", () => target.close());
  watch("database", "source database", (until) => source.ping(until));
  watch("target", "target database", (until) => target.ping(until));
  const here = await waitFor("source database", () => identityOf(config, logger, signal));
  const there = await waitFor("target database", () => identityOf(site, targetLogger, signal));
  refuseSameDatabase(here, there);
  refuseWrongTarget(there);
  const { epoch } = await waitFor("source database", () => source.open(signal));
  await waitFor("target database", () => target.open(signal));
  const stores = { source, epoch, target, targetLogger };
  loops.add(...(await waitFor("source database", () => directRole(engine, stores, signal))));
  const ofSource = async () => {
    const [{ unpublished, oldestSeconds, settledQueueId }, snapshots] = await Promise.all([
      source.backlog(),
      source.snapshots(),
    ]);
    // The last change known to be applied, not the last one captured.
    return { unpublished, oldestSeconds, lastQueueId: settledQueueId, snapshots };
  };
  return combined<StoreCounts>([ofSource, () => target.counts()], clock);
}

async function identityOf(config: Config, logger: Logger, signal: AbortSignal) {
  const admin = openAdministration(config, logger, 1);
  try {
    return { ...(await admin.identity(signal)), label: admin.label, expected: config.service.contour };
  } finally {
    await admin.close();
  }
}
