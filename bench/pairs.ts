/** What is measured: two servers joined by native logical replication, or by the replicator over a broker. */
import postgres, { type Sql } from "postgres";
import { openPair } from "../tests/e2e/pair.ts";
import { startPostgres } from "../tests/servers/postgres.ts";

export const TABLE =
  "CREATE TABLE bench (id bigint PRIMARY KEY, v text NOT NULL, n numeric NOT NULL, at timestamptz NOT NULL DEFAULT now());";

export interface BenchPair {
  readonly source: Sql;
  readonly target: Sql;
  /** Peak memory of the replicator's processes in MB; empty for the native pair. */
  memory(): Record<string, number>;
  close(): Promise<void>;
}

async function servers() {
  // fsync stays on: the figures are those of a machine that keeps what it has confirmed.
  const [a, b] = [await startPostgres({}), await startPostgres({})];
  return { a, b, urls: [await a.createDatabase(), await b.createDatabase()] as const };
}

/** PostgreSQL's own: a publication and a subscription. */
export async function nativePair(): Promise<BenchPair> {
  const { a, b, urls } = await servers();
  const source = postgres(urls[0], { max: 4, onnotice: () => undefined });
  const target = postgres(urls[1], { max: 4, onnotice: () => undefined });
  for (const sql of [source, target]) await sql.unsafe(TABLE);
  await source.unsafe("CREATE PUBLICATION bench_publication FOR TABLE bench");
  await target.unsafe(`CREATE SUBSCRIPTION bench_subscription CONNECTION '${urls[0]}' PUBLICATION bench_publication`);
  return {
    source,
    target,
    memory: () => ({}),
    close: async () => {
      await source.end({ timeout: 1 });
      await target.end({ timeout: 1 });
      await Promise.all([b.stop("immediate"), a.stop("immediate")]);
    },
  };
}

/** Ours: one publisher process, one consumer process. */
export async function replicatorPair(broker: "nats" | "kafka", capture: "row" | "statement"): Promise<BenchPair> {
  const { a, b, urls } = await servers();
  const pair = await openPair({ broker, ddl: TABLE, tables: [{ name: "bench", capture }], urls });
  const publisher = await pair.a.start("publisher");
  const consumer = await pair.b.start("consumer");
  return {
    source: pair.a.sql,
    target: pair.b.sql,
    memory: () => ({ publisher: publisher.peakMegabytes(), consumer: consumer.peakMegabytes() }),
    close: async () => {
      await pair.close();
      await Promise.all([b.stop("immediate"), a.stop("immediate")]);
    },
  };
}
