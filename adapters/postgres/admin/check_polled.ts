/** Polled tables: what makes their polls slow or late, and what nobody tells of when the application stamps. */
import type { Finding } from "../../../src/core/admin.ts";
import { sameTable } from "../../../src/core/table_name.ts";
import type { CheckContext } from "./check_context.ts";

/** Below so many rows reading the table is as quick as an index. */
const MANY_ROWS = 10_000;
/** A transaction that was prepared longer ago than this is one that somebody has forgotten. */
const FORGOTTEN = "5 minutes";

const POLLED = `
SELECT CASE WHEN t.schema_name = 'public' THEN '' ELSE quote_ident(t.schema_name) || '.' END || quote_ident(t.table_name) AS "table",
       t.stamping, quote_ident(t.stamp_columns[2]) AS updated_at, c.relkind,
       array_to_string(ARRAY(SELECT quote_ident(k) FROM unnest(t.key_columns) AS k), ', ') AS key,
       greatest(c.reltuples, 0)::bigint AS rows,
       EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND a.attname = t.stamp_columns[2]
                  AND (SELECT am.amname FROM pg_class x JOIN pg_am am ON am.oid = x.relam WHERE x.oid = i.indexrelid) = 'btree')::text AS indexed
  FROM "replicator".replicated_table t
  JOIN pg_namespace n ON n.nspname = t.schema_name
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name
 WHERE t.removed_at IS NULL AND t.capture = 'none'
 ORDER BY 1`;

type PolledRow = Readonly<Record<"table" | "stamping" | "updated_at" | "relkind" | "key" | "rows" | "indexed", string>>;

const PREPARED = `
SELECT quote_literal(gid) AS gid, to_char(prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS prepared,
       (prepared < clock_timestamp() - interval '${FORGOTTEN}')::text AS forgotten
  FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared`;

export async function checkPolled({ db, expected, signal }: CheckContext): Promise<readonly Finding[]> {
  const tables = await db.query<PolledRow>(db.ours(POLLED), [], { action: "look at the polled tables", signal });
  if (tables.length === 0) return [];
  const prepared = await db.query<{ gid: string; prepared: string; forgotten: string }>(PREPARED, [], {
    action: "look at prepared transactions",
    signal,
  });
  return [
    ...tables.flatMap((table) => otherStamp(table, expected)),
    ...tables.flatMap((table) => (table.indexed === "true" ? [] : [unindexed(table)])),
    ...tables.flatMap((table) => (table.stamping === "application" ? [stampedElsewhere(table)] : [])),
    ...prepared.map(({ gid, prepared: since, forgotten }): Finding => {
      const message = `Transaction ${gid} is prepared since ${since}: polls go back to before it each time, and what it wrote is not sent until it ends`;
      const remedy = `COMMIT PREPARED ${gid}; or ROLLBACK PREPARED ${gid};`;
      return {
        severity: forgotten === "true" ? "warning" : "info",
        code: "database.prepared_transaction",
        message,
        remedy,
      };
    }),
  ];
}

function otherStamp({ table, stamping }: PolledRow, { tables }: CheckContext["expected"]): Finding[] {
  const stamp = tables.find(({ name }) => sameTable(name, table))?.stamp;
  if (stamp === undefined || stamp === stamping) return [];
  const message = `Table ${table}: stamp is ${stamping}, the configuration says ${stamp}`;
  return [{ severity: "warning", code: "tables.differs", message, remedy: `replicator tables add ${table}` }];
}

function unindexed({ table, updated_at, key, rows, relkind }: PolledRow): Finding {
  // An index on a partitioned table cannot be made concurrently.
  const how = relkind === "p" ? "" : " CONCURRENTLY";
  return {
    severity: Number(rows) >= MANY_ROWS ? "warning" : "info",
    code: "tables.poll_index",
    message: `Table ${table} is polled and no index begins with ${updated_at}: each batch of a poll reads the whole table (about ${rows} rows). An index there keeps its updates from being HOT: each writes to all indexes of the table`,
    remedy: `CREATE INDEX${how} ON ${table} (${updated_at}, ${key});`,
  };
}

function stampedElsewhere({ table, updated_at }: PolledRow): Finding {
  return {
    severity: "info",
    code: "tables.stamp_application",
    message: `Table ${table} is stamped by the application: a write that leaves ${updated_at} or the contour's name out, or dates it further back than sync.overlap, is not noticed; deletions are found by comparing keys`,
    remedy: `docs/periodic_sync.md says what the application owes; stamp: trigger needs none of it`,
  };
}
