/** What a target holds after the cases of law3_cases.ts, as that file writes it. */
import type { Stamp } from "../../src/core/stamp.ts";
import { CHILDREN, type Result, stampText } from "./law3_cases.ts";
import type { Target } from "./target_fixture.ts";

const OPERATIONS: Readonly<Record<string, string>> = { I: "INSERT", U: "UPDATE", D: "DELETE", T: "TRUNCATE" };
const MICROSECONDS = (of: string) => `(extract(epoch FROM ${of}) * 1000000)::bigint`;

/** @param isClock whether PostgreSQL's clock may have said so during the test, in microseconds since 1970 */
export async function found(
  { db }: Target,
  isClock: (updatedAt: bigint) => boolean,
): Promise<(n: number) => Omit<Result, "outcome">> {
  const tables = ["users", ...CHILDREN];
  const stamp = (of: string) => `${of}.version, ${MICROSECONDS(`${of}.updated_at`)} AS at, ${of}.updated_by AS by`;
  const read = async (query: string) => {
    const byCase = new Map<number, string[]>();
    for (const { what, key, version, at, by } of await db.query<
      Record<"what" | "key" | "version" | "at" | "by", string>
    >(query)) {
      const n = Number.parseInt(key, 10);
      const text = stampText({ version: BigInt(version), updatedAt: BigInt(at), updatedBy: by }, isClock);
      byCase.set(n, [...(byCase.get(n) ?? []), `${what} ${text}`]);
    }
    return (n: number) => (byCase.get(n) ?? []).sort();
  };
  const rowsOf = (table: string) => {
    const values = table === "users" ? "t.email || ' ' || t.phone" : "coalesce(t.owner, 'null')";
    return `SELECT '${table} ' || t.id || ' ' || ${values} AS what, t.id AS key, ${stamp("t")} FROM ${table} t`;
  };
  const tombstonesOf = (table: string, n: number) =>
    `SELECT '${table} ' || t.id AS what, t.id AS key, ${stamp("t")} FROM replicator.tombstone_${n + 1} t`;
  const rows = await read(tables.map(rowsOf).join(" UNION ALL "));
  const tombstones = await read(tables.map(tombstonesOf).join(" UNION ALL "));
  const captured =
    await read(`SELECT operation || ' ' || r.table_name || ' ' || (line->>'id') AS what, line->>'id' AS key,
      line->>'version' AS version, ${MICROSECONDS("(line->>'updated_at')::timestamptz")} AS at, line->>'updated_by' AS by
    FROM (SELECT table_id, '${JSON.stringify(OPERATIONS)}'::json->>(operation::text) AS operation,
                 json_array_elements(('[' || data || ']')::json) AS line FROM replicator.queue) q
    JOIN replicator.replicated_table r USING (table_id)`);
  return (n) => ({ rows: rows(n), tombstones: tombstones(n), captured: captured(n) });
}

/** The rows of users, and whether children refer to them. */
export async function usersOf({ db }: Target): Promise<readonly { id: string; stamp: Stamp; referred: boolean }[]> {
  const referred = CHILDREN.map((child) => `EXISTS (SELECT FROM ${child} c WHERE c.owner = t.id)`).join(" OR ");
  const rows = await db.query<Record<"id" | "version" | "at" | "by" | "referred", string>>(
    `SELECT t.id, t.version, ${MICROSECONDS("t.updated_at")} AS at, t.updated_by AS by, ${referred} AS referred
     FROM users t ORDER BY t.id COLLATE "C"`,
  );
  return rows.map(({ id, version, at, by, referred: answer }) => ({
    id,
    stamp: { version: BigInt(version), updatedAt: BigInt(at), updatedBy: by },
    referred: answer === "t",
  }));
}
