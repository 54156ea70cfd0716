/** `replicator check`, database side: each finding says what is wrong and the command that mends it. */
import type { Expectations, Finding } from "../../../src/core/admin.ts";
import { isAbort, ReplicatorError } from "../../../src/core/errors.ts";
import type { Database } from "../connection.ts";
import type { CheckContext } from "./check_context.ts";
import { checkBypass, checkContour, checkGrants, checkQueue } from "./check_objects.ts";
import { checkPolled } from "./check_polled.ts";
import { checkSequences } from "./check_sequences.ts";
import { checkServer } from "./check_server.ts";
import { checkSession } from "./check_session.ts";
import { checkTables } from "./check_tables.ts";

type Check = (context: CheckContext) => Promise<readonly Finding[]>;

/** Those that need our objects, in the order in which one wants to read them. */
const WITH_OBJECTS: readonly Check[] = [
  checkContour,
  checkGrants,
  checkTables,
  checkSequences,
  checkPolled,
  checkSession,
  checkQueue,
  checkBypass,
];

// Not by to_regclass: it fails where the role may not use the schema, which is one thing to be found out.
const INSTALLED = `
SELECT (c.oid IS NOT NULL)::text AS there, has_schema_privilege(n.oid, 'USAGE')::text AS usable, quote_ident(current_user) AS role
  FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'local'
 WHERE n.nspname = $1`;

/** Never throws for what the database refuses: that is a finding too. @throws the signal's reason */
export async function checkDatabase(
  db: Database,
  expected: Expectations,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const context = { db, expected, signal };
  try {
    await db.ping(signal);
  } catch (error) {
    return [unexpected(error)];
  }
  const server = await found(checkServer, context);
  const [installed] = await db.query<{ there: string; usable: string; role: string }>(INSTALLED, [db.schema], {
    action: "look for the replicator's objects",
    signal,
  });
  if (installed?.there !== "true") {
    const missing: Finding = {
      severity: "blocking",
      code: "database.objects_missing",
      message: `Schema "${db.schema}" of ${db.label} holds none of the replicator's objects`,
      remedy: "replicator setup",
    };
    return [...server, missing];
  }
  if (installed.usable !== "true") return [...server, lockedOut(installed.role, context)];
  const findings = [...server];
  for (const check of WITH_OBJECTS) findings.push(...(await found(check, context)));
  return findings;
}

function lockedOut(role: string, { db, expected }: CheckContext): Finding {
  const roles = expected.roles.map((name) => `replicator_${name}`).join(", ");
  return {
    severity: "blocking",
    code: "database.not_authorized",
    message: `The role of ${db.label} may not use schema "${db.schema}"`,
    remedy: `psql -f sql/05_roles.sql; then: GRANT ${roles} TO ${role}`,
  };
}

async function found(check: Check, context: CheckContext): Promise<readonly Finding[]> {
  try {
    return await check(context);
  } catch (error) {
    if (isAbort(error) || context.signal.aborted) throw error;
    return [unexpected(error)];
  }
}

function unexpected(error: unknown): Finding {
  if (!(error instanceof ReplicatorError)) throw error;
  return { severity: "blocking", code: error.code, message: error.message, remedy: error.remedy ?? "" };
}
