/** What open() verifies and decides: our objects and rights, who we are, replica or origin (architecture §7.2 §7.7). */
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Database } from "../connection.ts";
import { sqlState } from "../errors.ts";
import type { SessionMode } from "./rows/execute.ts";

const NEEDED = [
  "ledger",
  "applied",
  "fragment",
  "inbox",
  "lease",
  "floor",
  "replicated_table",
  "conflict_log",
  "consumer_role",
];
const WRITTEN = ["ledger", "applied", "fragment", "inbox", "lease", "floor", "conflict_log"];
/** Called by the statements of apply. */
const CALLED = "conflict_found()";

/** @throws ReplicatorError `database.objects_missing`, `database.not_authorized` */
export async function verifyTarget(db: Database, signal: AbortSignal): Promise<void> {
  const options = { signal, action: `verify the replicator's objects in ${db.label}` };
  const missing = await db.query<{ name: string }>(
    `SELECT n.name FROM unnest($2::text::text[]) AS n(name)
WHERE NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
                  WHERE s.nspname = $1 AND c.relname = n.name)
UNION ALL SELECT $3 WHERE to_regprocedure(format('%I.%s', $1::text, $3::text)) IS NULL`,
    [db.schema, `{${NEEDED.join(",")}}`, CALLED],
    options,
  );
  if (missing.length > 0) {
    throw new ReplicatorError({
      code: "database.objects_missing",
      message: `Cannot apply to ${db.label}: schema "${db.schema}" has no ${missing.map(({ name }) => `"${name}"`).join(", ")}`,
      retry: "never",
      fault: "environment",
      remedy: "Run: replicator setup",
    });
  }
  const denied = await db.query<{ name: string; who: string }>(
    `SELECT n.name, current_user AS who FROM unnest($2::text::text[]) AS n(name)
WHERE NOT has_schema_privilege($1, 'USAGE') OR NOT has_table_privilege(format('%I.%I', $1::text, n.name), 'SELECT')
   OR NOT has_table_privilege(format('%I.%I', $1::text, n.name), 'INSERT')
UNION ALL SELECT $3, current_user WHERE NOT has_function_privilege(format('%I.%s', $1::text, $3::text), 'EXECUTE')`,
    [db.schema, `{${WRITTEN.join(",")}}`, CALLED],
    options,
  );
  if (denied.length > 0) {
    const who = denied[0]?.who ?? "";
    throw new ReplicatorError({
      code: "database.not_authorized",
      message: `Cannot apply to ${db.label}: role "${who}" may not write or call ${denied.map(({ name }) => `"${db.schema}".${name}`).join(", ")}`,
      retry: "never",
      fault: "environment",
      remedy: `Run psql -f sql/05_roles.sql, then: GRANT replicator_consumer TO "${who}"`,
    });
  }
  // So that the mark of our sessions is not taken for a bypass (interface §3).
  await db.execute(
    db.ours(`INSERT INTO "replicator".consumer_role (role_name) SELECT session_user
WHERE NOT EXISTS (SELECT FROM "replicator".consumer_role WHERE role_name = session_user) ON CONFLICT DO NOTHING`),
    [],
    { signal, action: "register as a consumer" },
  );
}

/** `forbidden`: why replica mode is out of the question for these tables, or null. @throws when `wanted` is refused */
export async function chooseMode(
  db: Database,
  wanted: "auto" | "replica" | "origin",
  forbidden: string | null,
  signal: AbortSignal,
): Promise<{ readonly mode: SessionMode; readonly because: string }> {
  if (wanted === "origin") return { mode: "origin", because: "consumer.session is origin" };
  const refusal = forbidden ?? (await replicaRefused(db, signal));
  if (refusal === null) return { mode: "replica", because: "session_replication_role may be set" };
  if (wanted === "auto") return { mode: "origin", because: refusal };
  throw new ReplicatorError({
    code: "apply.replica_refused",
    message: `Cannot apply with consumer.session: replica: ${refusal}`,
    retry: "never",
    fault: "environment",
    remedy:
      forbidden === null
        ? "As a superuser: GRANT SET ON PARAMETER session_replication_role TO replicator_consumer (PostgreSQL 15 or later); or set consumer.session: auto"
        : "Set consumer.session: auto",
  });
}

async function replicaRefused(db: Database, signal: AbortSignal): Promise<string | null> {
  try {
    // Transaction-local, and the statement is its own transaction: nothing stays set.
    await db.query("SELECT set_config('session_replication_role', 'replica', true)", [], { signal });
    return null;
  } catch (error) {
    if (sqlState(error) !== "42501") throw error;
    return "this role may not set session_replication_role";
  }
}
