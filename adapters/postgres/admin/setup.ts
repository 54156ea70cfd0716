/** `replicator setup`: the files of 00_master_setup.sql in one transaction, under the configured schema's name (interface §3). */
import type { SetupOptions } from "../../../src/core/admin.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Connection, Database } from "../connection.ts";
import { SQL_FILES } from "./sql_files.ts";

/** Locks of a live system can be in the way: functions are replaced, triggers made anew. */
const TIMEOUT_MS = 120_000;

/** Returns lines for a person. @throws ReplicatorError `setup.wrong_contour`, or what the database says */
export async function installObjects(
  db: Database,
  options: SetupOptions,
  signal: AbortSignal,
): Promise<readonly string[]> {
  return await db.transaction(async (connection) => {
    const action = `install the replicator's objects in schema "${db.schema}"`;
    const run = { action, signal, timeoutMs: TIMEOUT_MS, prepare: false };
    await connection.query(
      "SELECT set_config('client_min_messages', 'warning', true), set_config('statement_timeout', '0', true)",
      [],
      run,
    );
    // Two setups at once would collide on CREATE OR REPLACE ("tuple concurrently updated").
    await connection.query(
      "SELECT pg_advisory_xact_lock(hashtextextended('replicator setup ' || $1, 0))",
      [db.schema],
      run,
    );
    for (const [place, file] of SQL_FILES.entries()) {
      await connection.script(db.ours(file.text), { ...run, action: `${action} (sql/${file.name})` });
      // Known before the last file makes the thin names.
      if (place === 0) await rememberSite(connection, db, options, run);
    }
    const query = async (text: string, params: readonly (string | null)[] = []) =>
      (await connection.query<{ line: string }>(db.ours(text), params, run)).map(({ line }) => line);
    await query(`SELECT "replicator".set_contour($1)::text AS line`, [options.contour]);
    const names = await query(`SELECT line FROM "replicator".set_compat_schema($1) AS t(line)`, [options.compatSchema]);
    const refreshed = await query(`SELECT line FROM "replicator".refresh_stale_tables() AS t(line)`);
    await query(`SELECT "replicator".grant_rights()::text AS line`);
    return [...names, ...refreshed];
  }, signal);
}

async function rememberSite(connection: Connection, db: Database, options: SetupOptions, run: object): Promise<void> {
  const { contour, compatSchema, columns } = options;
  const [row] = await connection.query<{ contour: string }>(db.ours(`SELECT contour FROM "replicator".local`), [], run);
  if (row && row.contour !== "" && row.contour !== contour) {
    throw new ReplicatorError({
      code: "setup.wrong_contour",
      message: `Cannot set up ${db.label}: it is contour "${row.contour}", the configuration says service.contour is "${contour}"`,
      retry: "never",
      fault: "input",
      remedy: `Point database.url at this contour's own database, or correct service.contour. To rename a contour that has published nothing: SELECT ${db.ours('"replicator"')}.set_contour('${contour}')`,
    });
  }
  await connection.query(
    db.ours(
      `UPDATE "replicator".local SET compat_schema = $1, version_column = $2, updated_at_column = $3, updated_by_column = $4`,
    ),
    [compatSchema, columns.version, columns.updated_at, columns.updated_by],
    run,
  );
}
