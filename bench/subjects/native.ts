/** The yardstick: a publication and a subscription. */
import postgres from "postgres";
import { idSource } from "../ids.ts";
import { holdTransaction } from "../old_transaction.ts";
import { startServer, watchServer } from "../servers.ts";
import { DDL, TABLES } from "../tables.ts";
import type { Pair } from "../types.ts";
import { usageOf } from "../usage.ts";

/** Two servers joined by PostgreSQL's own logical replication, with the settings it comes with. */
export async function openNative(): Promise<Pair> {
  const [a, b] = [await startServer(), await startServer()];
  const [sourceUrl, targetUrl] = [await a.createDatabase(), await b.createDatabase()];
  const source = postgres(sourceUrl, { max: 4, onnotice: () => undefined });
  const target = postgres(targetUrl, { max: 4, onnotice: () => undefined });
  for (const sql of [source, target]) await sql.unsafe(DDL);
  await source.unsafe(`CREATE PUBLICATION bench_publication FOR TABLE ${TABLES.join(", ")}`);
  await target.unsafe(
    `CREATE SUBSCRIPTION bench_subscription CONNECTION '${sourceUrl}' PUBLICATION bench_publication WITH (copy_data = off)`,
  );
  return {
    source,
    target,
    sourceUrl,
    freshIds: idSource(),
    usage: () => usageOf({ "source PostgreSQL": watchServer(a), "target PostgreSQL": watchServer(b) }),
    resetPeaks: () => undefined,
    stopReplication: async () => {
      await target.unsafe("ALTER SUBSCRIPTION bench_subscription DISABLE");
    },
    startReplication: async () => {
      await target.unsafe("ALTER SUBSCRIPTION bench_subscription ENABLE");
    },
    holdTransaction: () => holdTransaction(sourceUrl),
    close: async () => {
      await Promise.all([source.end({ timeout: 2 }), target.end({ timeout: 2 })]);
      await Promise.all([b.close(), a.close()]);
    },
  };
}
