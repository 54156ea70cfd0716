/** Ours in direct mode: one process between two databases, no broker. */
import postgres from "postgres";
import { Contour, type Replicator } from "../../tests/e2e/harness.ts";
import { endPidWithUs } from "../children.ts";
import { idSource } from "../ids.ts";
import { holdTransaction } from "../old_transaction.ts";
import { startServer, watchServer } from "../servers.ts";
import { DDL, TABLES } from "../tables.ts";
import type { Pair } from "../types.ts";
import { resetPeak, usageOf } from "../usage.ts";

export async function openDirect(): Promise<Pair> {
  const [a, b] = [await startServer(), await startServer()];
  const [sourceUrl, targetUrl] = [await a.createDatabase(), await b.createDatabase()];
  const target = postgres(targetUrl, { max: 4, onnotice: () => undefined });
  const tables = TABLES.map((name) => ({ name }));
  const contour = new Contour({
    name: "bench",
    url: sourceUrl,
    broker: { target: { url: targetUrl } },
    from: [],
    tables,
  });
  for (const sql of [contour.sql, target]) await sql.unsafe(DDL);
  await contour.prepare();
  let running: Replicator | undefined;
  const start = async () => {
    running = await contour.start();
    endPidWithUs(running.pid, running.exited());
  };
  const stop = async () => {
    await running?.stop();
    running = undefined;
  };
  await start();
  return {
    source: contour.sql,
    target,
    sourceUrl,
    freshIds: idSource(),
    usage: () =>
      usageOf({
        "source PostgreSQL": watchServer(a),
        "target PostgreSQL": watchServer(b),
        ...(running && { replicator: { pid: running.pid, tree: false } }),
      }),
    resetPeaks: () => {
      if (running) resetPeak(running.pid);
    },
    stopReplication: stop,
    startReplication: start,
    holdTransaction: () => holdTransaction(sourceUrl),
    close: async () => {
      await contour.close();
      await target.end({ timeout: 2 });
      await Promise.all([b.close(), a.close()]);
    },
  };
}
