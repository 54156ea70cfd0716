/** Our own objects: whose database this is, what the role may do with them, the queue, marked sessions. */
import type { Finding } from "../../../src/core/admin.ts";
import type { CheckContext } from "./check_context.ts";

export async function checkContour({ db, expected, signal }: CheckContext): Promise<readonly Finding[]> {
  const [row] = await db.query<{ contour: string }>(db.ours(`SELECT contour FROM "replicator".local`), [], {
    action: "read which contour this database is",
    signal,
  });
  const found = row?.contour ?? "";
  if (found === expected.contour) return [];
  if (found === "") {
    const message = `${db.label} has no contour's name yet, the configuration says "${expected.contour}"`;
    return [{ severity: "warning", code: "database.contour_unset", message, remedy: "replicator setup" }];
  }
  return [
    {
      severity: "blocking",
      code: "database.wrong_contour",
      message: `${db.label} is contour "${found}", the configuration says service.contour is "${expected.contour}"`,
      remedy: "Point database.url at this contour's own database, or correct service.contour",
    },
  ];
}

interface Grant {
  readonly role: "publisher" | "consumer";
  readonly relation: string;
  readonly privileges: string;
}

/** As "replicator".grant_rights gives them; one of each kind stands for its like. */
const GRANTS: readonly Grant[] = [
  { role: "publisher", relation: "queue", privileges: "SELECT" },
  { role: "publisher", relation: "cut", privileges: "SELECT,INSERT" },
  { role: "publisher", relation: "confirmed", privileges: "SELECT,INSERT" },
  { role: "publisher", relation: "lease", privileges: "SELECT,INSERT,UPDATE" },
  { role: "publisher", relation: "layout", privileges: "SELECT,INSERT" },
  { role: "publisher", relation: "epoch", privileges: "SELECT,INSERT" },
  { role: "consumer", relation: "lease", privileges: "SELECT,INSERT,UPDATE" },
  { role: "consumer", relation: "ledger", privileges: "SELECT,INSERT,UPDATE" },
  { role: "consumer", relation: "applied", privileges: "SELECT,INSERT" },
  { role: "consumer", relation: "inbox", privileges: "SELECT,INSERT,UPDATE,DELETE" },
  { role: "consumer", relation: "floor", privileges: "SELECT,INSERT" },
];

const MISSING_GRANTS = `
SELECT g.role, g.relation, p.privilege, quote_ident(current_user) AS grantee
  FROM jsonb_to_recordset($1::text::jsonb) AS g(role text, relation text, privileges text)
 CROSS JOIN LATERAL unnest(string_to_array(g.privileges, ',')) AS p(privilege)
 WHERE NOT has_table_privilege(current_user, to_regclass('"replicator".' || quote_ident(g.relation)), p.privilege)`;

// Not by to_regclass: it fails where the role may not use the schema, which is what is to be found out.
const TABLE_GRANTS = `
SELECT format('%I.%I', t.schema_name, t.table_name) AS relation, p.privilege
  FROM "replicator".replicated_table t
  JOIN pg_namespace n ON n.nspname = t.schema_name
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name
 CROSS JOIN LATERAL (
       SELECT 'USAGE on its schema' WHERE NOT has_schema_privilege(current_user, n.oid, 'USAGE')
       UNION ALL
       SELECT one FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS one WHERE NOT has_table_privilege(current_user, c.oid, one)) AS p(privilege)
 WHERE t.removed_at IS NULL`;

export async function checkGrants({ db, expected, signal }: CheckContext): Promise<readonly Finding[]> {
  const action = "read this role's rights";
  const findings: Finding[] = [];
  const wanted = GRANTS.filter(({ role }) => expected.roles.includes(role));
  const missing = await db.query<{ role: string; relation: string; privilege: string; grantee: string }>(
    db.ours(MISSING_GRANTS),
    [JSON.stringify(wanted)],
    { action, signal },
  );
  for (const role of expected.roles) {
    const lacking = missing
      .filter((grant) => grant.role === role)
      .map(({ privilege, relation }) => `${privilege} on ${relation}`);
    if (lacking.length === 0) continue;
    findings.push({
      severity: "blocking",
      code: "database.not_authorized",
      message: `The role of ${db.label} cannot act as ${role}: it lacks ${lacking.join(", ")} in schema "${db.schema}"`,
      remedy: `psql -f sql/05_roles.sql; then: GRANT replicator_${role} TO ${missing[0]?.grantee ?? "its role"}`,
    });
  }
  if (expected.roles.includes("consumer")) {
    const tables = await db.query<{ relation: string; privilege: string }>(db.ours(TABLE_GRANTS), [], {
      action,
      signal,
    });
    for (const relation of new Set(tables.map((row) => row.relation))) {
      const lacking = tables.filter((row) => row.relation === relation).map(({ privilege }) => privilege);
      findings.push({
        severity: "blocking",
        code: "database.table_not_authorized",
        message: `The role of ${db.label} cannot apply changes to ${relation}: it lacks ${lacking.join(", ")}`,
        remedy: `GRANT SELECT, INSERT, UPDATE, DELETE ON ${relation} TO replicator_consumer; and USAGE on its schema`,
      });
    }
  }
  return findings;
}

const QUEUE = `
SELECT s.seqcache::text AS cache,
       (SELECT coalesce(sum(pg_total_relation_size(i.inhrelid)), 0) FROM pg_inherits i WHERE i.inhparent = to_regclass('"replicator".queue'))::text AS bytes
  FROM pg_sequence s WHERE s.seqrelid = to_regclass('"replicator".queue_id_seq')`;

export async function checkQueue({ db, expected, signal }: CheckContext): Promise<readonly Finding[]> {
  const [row] = await db.query<{ cache: string; bytes: string }>(db.ours(QUEUE), [], {
    action: "look at the queue",
    signal,
  });
  const findings: Finding[] = [];
  if (row && row.cache !== "1") {
    findings.push({
      severity: "blocking",
      code: "database.queue_cache",
      message: `The queue's sequence has CACHE ${row.cache}, expected 1: ids of one transaction would not rise with its changes`,
      remedy: db.ours('ALTER SEQUENCE "replicator".queue_id_seq CACHE 1;'),
    });
  }
  const bytes = Number(row?.bytes ?? 0);
  if (bytes > expected.queueWarnBytes) {
    findings.push({
      severity: "warning",
      code: "database.queue_large",
      message: `The queue takes ${megabytes(bytes)}, more than queue.warn_size, which is ${megabytes(expected.queueWarnBytes)}`,
      remedy: "replicator status: is a publisher running? Else shorten queue.retention",
    });
  }
  return findings;
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

const BYPASS = `
SELECT session_role, count(*)::text AS transactions, string_agg(DISTINCT table_name, ', ') AS tables,
       to_char(max(occurred_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS last
  FROM "replicator".bypass_log GROUP BY session_role ORDER BY session_role`;

/** A session that carried the consumer's mark and is no consumer: what it wrote was not captured. */
export async function checkBypass({ db, signal }: CheckContext): Promise<readonly Finding[]> {
  const rows = await db.query<Readonly<Record<"session_role" | "transactions" | "tables" | "last", string>>>(
    db.ours(BYPASS),
    [],
    {
      action: "read bypass_log",
      signal,
    },
  );
  return rows.map((row) => ({
    severity: "warning",
    code: "database.bypassed",
    message: `Role ${row.session_role} wrote ${row.tables} in ${row.transactions} transactions that were not captured, last ${row.last}: it carries the consumer's mark`,
    remedy: db.ours(
      `Take application_name replicator_consumer or replicator.capture = off from that session; once compared: DELETE FROM "replicator".bypass_log WHERE session_role = '${row.session_role.replaceAll("'", "''")}'`,
    ),
  }));
}
