/** The server itself: version, encoding, role in its cluster, settings that cost durability. */
import type { Finding } from "../../../src/core/admin.ts";
import type { CheckContext } from "./check_context.ts";

const OLDEST = 140_000;
const NEWEST = 190_000;

const SERVER = `
SELECT current_setting('server_version_num') AS version_num, current_setting('server_version') AS version,
       current_setting('server_encoding') AS encoding, pg_is_in_recovery()::text AS standby,
       current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('autovacuum') AS autovacuum, current_setting('is_superuser') AS superuser, current_user::text AS role`;

type ServerRow = Readonly<
  Record<
    | "version_num"
    | "version"
    | "encoding"
    | "standby"
    | "fsync"
    | "full_page_writes"
    | "autovacuum"
    | "superuser"
    | "role",
    string
  >
>;

export async function checkServer({ db, signal }: CheckContext): Promise<readonly Finding[]> {
  const [row] = await db.query<ServerRow>(SERVER, [], { action: "read the server's settings", signal });
  if (!row) throw new Error("SERVER answers with one row");
  const findings: Finding[] = [];
  const version = Number(row.version_num);
  if (version < OLDEST || version >= NEWEST) {
    findings.push({
      severity: version < OLDEST ? "blocking" : "warning",
      code: "database.version",
      message: `${db.label} is PostgreSQL ${row.version}, expected 14 to 18`,
      remedy: version < OLDEST ? "Upgrade the server" : "Use a release of the replicator that names this version",
    });
  }
  if (row.encoding !== "UTF8") {
    findings.push({
      severity: "blocking",
      code: "database.encoding",
      message: `The encoding of ${db.label} is ${row.encoding}, expected UTF8`,
      remedy: "Dump it and restore it into a database made with: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
    });
  }
  if (row.standby === "true") {
    findings.push({
      severity: "blocking",
      code: "database.standby",
      message: `${db.label} is a standby: nothing can be captured or applied there`,
      remedy: "Point database.url at the primary",
    });
  }
  for (const setting of ["fsync", "full_page_writes"] as const) {
    if (row[setting] === "on") continue;
    findings.push({
      severity: "warning",
      code: `database.${setting}`,
      message: `${setting} is off: after a crash of the machine the database may be damaged, replicated changes with it`,
      remedy: `ALTER SYSTEM SET ${setting} = on; SELECT pg_reload_conf();`,
    });
  }
  if (row.autovacuum !== "on") {
    findings.push({
      severity: "warning",
      code: "database.autovacuum",
      message: "autovacuum is off: statistics and dead rows of the replicated tables are nobody's job",
      remedy: "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();",
    });
  }
  if (row.superuser === "on") {
    findings.push({
      severity: "info",
      code: "database.superuser",
      message: `Role ${row.role} is a superuser; the replicator needs none`,
      remedy: "psql -f sql/05_roles.sql, then connect as a role with replicator_publisher and replicator_consumer",
    });
  }
  return findings;
}
