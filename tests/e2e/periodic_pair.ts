/** Two contours with polled tables: `products` and `categories`, whose topics are the pair's own. */
import type { BrokerConfig, Contour, Replicator, TableConfig } from "./harness.ts";
import { type BrokerKind, openPair, type Pair } from "./pair.ts";

export const PERIODIC_DDL = `
CREATE TABLE products (id bigint PRIMARY KEY, name text, price numeric(12,2), deleted_at timestamptz);
CREATE TABLE categories (id int PRIMARY KEY, name text, version bigint DEFAULT 1, updated_at timestamptz DEFAULT now(), updated_by varchar(50));
`;

export interface PeriodicOptions {
  readonly broker: BrokerKind | BrokerConfig;
  /** Of `products`; `categories` is polled every hour, or when asked. */
  readonly interval?: string;
  readonly ddl?: string;
  readonly critical?: readonly TableConfig[];
  readonly batchSize?: number;
}

let serial = 0;

export async function openPeriodicPair(options: PeriodicOptions): Promise<Pair> {
  const id = `${process.pid.toString(36)}${Date.now().toString(36)}p${serial++}`;
  return openPair({
    broker: options.broker,
    ddl: `${PERIODIC_DDL}${options.ddl ?? ""}`,
    tables: options.critical ?? [],
    extra: {
      non_critical_tables: [
        {
          name: "products",
          topic: `products_changes_periodic_${id}`,
          primary_key: ["id"],
          replication_mode: "periodic",
          sync_interval: options.interval ?? "1h",
        },
        { name: "categories", topic: `categories_changes_periodic_${id}`, sync_interval: "1h" },
      ],
      sync: { batch_size: options.batchSize ?? 1_000 },
    },
  });
}

/** Asks for a poll of a table now. */
export async function pollNow(replicator: Replicator, table: string): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`http://127.0.0.1:${replicator.port}/sync/${encodeURIComponent(table)}`, {
    method: "POST",
  });
  return { status: response.status, body: await response.json() };
}

/** What the conflict log, the inbox and the ledger say of things that must not be: nothing. */
export async function troubles({ sql }: Contour): Promise<unknown> {
  const [row] =
    await sql`SELECT (SELECT count(*)::int FROM inbox) AS parked, (SELECT count(*)::int FROM conflict_log) AS conflicts,
    (SELECT count(*)::int FROM (SELECT event_id FROM processed_events GROUP BY event_id HAVING count(*) > 1) d) AS twice`;
  return row;
}
