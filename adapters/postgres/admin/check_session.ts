/** How changes will be applied (architecture §7.7), and the triggers that would disturb there. */
import type { Finding } from "../../../src/core/admin.ts";
import type { CheckContext } from "./check_context.ts";

// Before PostgreSQL 15 only a superuser may; has_parameter_privilege does not exist there.
const MAY_REPLICA = `
SELECT (current_setting('is_superuser') = 'on')::text AS superuser, (current_setting('server_version_num')::int >= 150000)::text AS grantable`;
const GRANTED = "SELECT has_parameter_privilege(current_user, 'session_replication_role', 'SET')::text AS granted";

// A foreign key of a table that is not replicated: in replica mode nobody would check it.
const FOREIGN_REFERENCES = `
SELECT c.conname, c.conrelid::regclass::text AS child, c.confrelid::regclass::text AS parent
  FROM pg_constraint c
  JOIN pg_class f ON f.oid = c.confrelid JOIN pg_namespace n ON n.oid = f.relnamespace
  JOIN "replicator".replicated_table p ON p.schema_name = n.nspname AND p.table_name = f.relname AND p.removed_at IS NULL
 WHERE c.contype = 'f' AND c.conparentid = 0
   AND NOT EXISTS (SELECT FROM pg_class k JOIN pg_namespace s ON s.oid = k.relnamespace
                     JOIN "replicator".replicated_table r ON r.schema_name = s.nspname AND r.table_name = k.relname AND r.removed_at IS NULL
                    WHERE k.oid = coalesce(pg_partition_root(c.conrelid), c.conrelid))`;

// O fires in origin mode, R in replica mode, A in both.
const USER_TRIGGERS = `
SELECT t.tgname AS name, t.tgrelid::regclass::text AS relation, t.tgenabled::text AS enabled
  FROM "replicator".replicated_table r
  JOIN pg_namespace n ON n.nspname = r.schema_name
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = r.table_name
  JOIN pg_trigger t ON t.tgrelid = c.oid
 WHERE r.removed_at IS NULL AND NOT t.tgisinternal AND t.tgname NOT LIKE 'zz\\_replicator\\_%' AND t.tgenabled <> 'D'
 ORDER BY 2, 1`;

export async function checkSession(context: CheckContext): Promise<readonly Finding[]> {
  const { db, expected, signal } = context;
  if (!expected.roles.includes("consumer")) return [];
  const action = "look at how changes will be applied";
  const allowed = await mayUseReplica(context);
  const references = await db.query<{ conname: string; child: string; parent: string }>(
    db.ours(FOREIGN_REFERENCES),
    [],
    { action, signal },
  );
  const replica = expected.session !== "origin" && allowed && references.length === 0;
  const findings: Finding[] = [];
  const grant =
    "GRANT SET ON PARAMETER session_replication_role TO replicator_consumer (PostgreSQL 15 and newer; sql/05_roles.sql does it)";
  if (expected.session === "replica" && !allowed) {
    const message = "consumer.session is replica, but this role may not set session_replication_role";
    findings.push({ severity: "blocking", code: "consumer.session_refused", message, remedy: grant });
  }
  for (const { conname, child, parent } of references) {
    findings.push({
      severity: expected.session === "replica" ? "blocking" : "warning",
      code: "consumer.foreign_reference",
      message: `Foreign key ${conname} of ${child}, which is not replicated, points at ${parent}: changes cannot be applied in replica mode`,
      remedy: `replicator tables add ${child}`,
    });
  }
  if (!replica && expected.session === "auto" && !allowed) {
    const message = "Changes are applied in origin mode: this role may not set session_replication_role";
    findings.push({ severity: "info", code: "consumer.origin_mode", message, remedy: grant });
  }
  const triggers = await db.query<{ name: string; relation: string; enabled: string }>(db.ours(USER_TRIGGERS), [], {
    action,
    signal,
  });
  for (const { name, relation, enabled } of triggers) {
    const fires = enabled === "A" || enabled === (replica ? "R" : "O");
    if (!fires) continue;
    findings.push({
      severity: "blocking",
      code: "consumer.trigger",
      message: `Trigger ${name} of ${relation} would run while a change is applied (${replica ? "replica" : "origin"} mode): it may rewrite what arrives or write what nobody captures`,
      remedy: replica
        ? `ALTER TABLE ${relation} ENABLE TRIGGER "${name.replaceAll('"', '""')}"; -- fires for local writes only`
        : `${grant}, or: ALTER TABLE ${relation} DISABLE TRIGGER "${name.replaceAll('"', '""')}"`,
    });
  }
  return findings;
}

async function mayUseReplica({ db, signal }: CheckContext): Promise<boolean> {
  const action = "read this role's rights";
  const [row] = await db.query<{ superuser: string; grantable: string }>(MAY_REPLICA, [], { action, signal });
  if (row?.superuser === "true") return true;
  if (row?.grantable !== "true") return false;
  const [granted] = await db.query<{ granted: string }>(GRANTED, [], { action, signal });
  return granted?.granted === "true";
}
