/** The configured tables against those under replication. */
import type { Finding, TableState } from "../../../src/core/admin.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { staleTable } from "../../../src/core/stale_table.ts";
import { sameTable } from "../../../src/core/table_name.ts";
import { sqlState } from "../errors.ts";
import type { CheckContext } from "./check_context.ts";
import { addTable, listTables } from "./tables.ts";

export async function checkTables(context: CheckContext): Promise<readonly Finding[]> {
  const { db, expected, signal } = context;
  const states = await listTables(db, signal);
  const findings: Finding[] = [];
  if (states.length === 0 && expected.tables.length === 0) {
    findings.push({
      severity: "warning",
      code: "tables.none",
      message: "No table is under replication and none is configured",
      remedy: "replicator tables add <table>",
    });
  }
  for (const wanted of expected.tables) {
    const known = states.find((state) => sameTable(state.table, wanted.name));
    findings.push(...(known ? differences(known, wanted) : await absent(context, wanted)));
  }
  findings.push(...states.flatMap((state) => staleTable(state) ?? []));
  findings.push(...(await notes(context)));
  return findings;
}

type Wanted = CheckContext["expected"]["tables"][number];

function differences(known: TableState, wanted: Wanted): Finding[] {
  const found: string[] = [];
  const compare = (what: string, is: string, should: string | undefined) => {
    if (should !== undefined && is !== should) found.push(`${what} is ${is}, the configuration says ${should}`);
  };
  const list = (names: readonly string[] | undefined) => (names ? [...names].sort().join(", ") : undefined);
  compare("primary_key", list(known.key) ?? "", list(wanted.primaryKey));
  compare("conflict", known.conflict, wanted.conflict);
  compare("exclude_columns", list(known.exclude_columns) ?? "", list(wanted.excludeColumns));
  if (wanted.capture !== "auto") compare("capture", known.capture, wanted.capture);
  else if (known.capture === "none")
    found.push("it is polled, the configuration lists it among those that triggers capture");
  if (found.length === 0) return [];
  return [
    {
      severity: "warning",
      code: "tables.differs",
      message: `Table ${known.table}: ${found.join("; ")}`,
      remedy: `replicator tables add ${known.table}`,
    },
  ];
}

/** Not under replication yet: whether it could be is found by a dry run. */
async function absent({ db, signal }: CheckContext, wanted: Wanted): Promise<Finding[]> {
  try {
    await addTable(db, wanted.name, wanted, true, signal);
  } catch (error) {
    if (!(error instanceof ReplicatorError)) throw error;
    // A role that only runs the replicator cannot try it; that the table is absent is true all the same.
    if (error.code !== "tables.not_authorized") {
      return [{ severity: "blocking", code: error.code, message: error.message, remedy: error.remedy ?? "" }];
    }
  }
  const message = `Table ${wanted.name} is configured and not under replication`;
  return [{ severity: "blocking", code: "tables.absent", message, remedy: `replicator tables add ${wanted.name}` }];
}

const NOTES = `
SELECT f.line
  FROM "replicator".replicated_table t
  JOIN pg_namespace n ON n.nspname = t.schema_name
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name
 CROSS JOIN LATERAL "replicator".table_findings(c.oid, '[]'::jsonb) AS f(line)
 WHERE t.removed_at IS NULL
   AND ($1 = '1' OR f.line NOT IN (SELECT "replicator".sequence_notes(c.oid)))
 ORDER BY t.schema_name, t.table_name, f.line`;

/** What setup says about a table, read again: sequences, rules, row security, triggers that sort after ours. */
async function notes({ db, expected, signal }: CheckContext): Promise<Finding[]> {
  try {
    // Where several contours write, check_sequences.ts knows better than the note about sequences.
    const contours = String(expected.contours.length);
    const rows = await db.query<{ line: string }>(db.ours(NOTES), [contours], { action: "look at the tables", signal });
    return rows.map(({ line }) => note(line.replace(/^note: /, "")));
  } catch (error) {
    if (sqlState(error) !== "42501") throw error;
    const message = "What may disturb inside the tables (sequences, rules, row security) is shown to their owner only";
    return [
      { severity: "info", code: "tables.notes_hidden", message, remedy: "replicator check, connected as the owner" },
    ];
  }
}

/** "what is wrong: what to do" */
function note(text: string): Finding {
  const cut = text.lastIndexOf(": ");
  const message = cut < 0 ? text : text.slice(0, cut);
  return {
    severity: "warning",
    code: "tables.note",
    message: message.charAt(0).toUpperCase() + message.slice(1),
    remedy: cut < 0 ? "" : text.slice(cut + 2),
  };
}
