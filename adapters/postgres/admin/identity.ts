/** Which database this is: two addresses may lead to one, and its copies are not another (direct mode). */
import type { DatabaseIdentity } from "../../../src/core/admin.ts";
import type { Database } from "../connection.ts";

// A file copy of a cluster keeps its system identifier and the oids: which of them runs here its start tells.
const DATABASE = `
SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()), extract(epoch FROM pg_postmaster_start_time()), d.oid) AS database,
       EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = $1 AND c.relname = 'local' AND has_schema_privilege(n.oid, 'USAGE')) AS installed
  FROM pg_database d WHERE d.datname = current_database()`;

export async function databaseIdentity(db: Database, signal: AbortSignal): Promise<DatabaseIdentity> {
  const options = { action: "find out which database this is", signal };
  const [row] = await db.query<{ database: string; installed: string }>(DATABASE, [db.schema], options);
  if (!row) throw new Error("The current database is in pg_database");
  if (row.installed !== "t") return { database: row.database, contour: null };
  const [local] = await db.query<{ contour: string }>(db.ours(`SELECT contour FROM "replicator".local`), [], options);
  return { database: row.database, contour: local?.contour ?? "" };
}
