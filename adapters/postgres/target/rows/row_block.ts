/**
 * The second try (architecture §7.3): the rows of a chunk one by one, each in a subtransaction of its own, inside
 * PostgreSQL: one round trip a chunk. The rows come in the setting `replicator.rows` (a JSON array), their origins in
 * `replicator.origins`, what became of them is left in `replicator.result`; all are transaction-local.
 */
import { ReplicatorError } from "../../../../src/core/errors.ts";
import { CONFLICT_FOUND, CONFLICTS_OFF } from "../conflicts/conflict_watch.ts";
import type { Logged } from "../conflicts/contested.ts";
import { originsOf } from "../conflicts/origins.ts";
import { constraintMessage, type LateCheck } from "./checks.ts";

export interface FailedRow {
  /** Ordinal from 0 among the rows tried. */
  readonly n: number;
  /** SQLSTATE, or one of our dotted codes. */
  readonly state: string;
  readonly message: string;
  readonly facts?: FailureFacts;
}

/** What PostgreSQL says beside its message, in no language; `function`: where it was raised. Absent what it does not say. */
export type FailureFacts = Readonly<
  Partial<Record<"schema" | "table" | "column" | "constraint" | "type" | "function", string>>
>;

export interface RowResults {
  /** Of every row, joined by commas; NULL where the row failed. */
  readonly versions: string;
  /** Ordinals of the rows a greater stamp has beaten. */
  readonly lost: readonly number[];
  readonly failed: readonly FailedRow[];
  /** What the conflict log got; null: nothing. */
  readonly conflicts: Logged | null;
}

/** Our own condition inside the block: a stamp out of range (architecture §6.8). */
export const BAD_STAMP = "apply.stamp_out_of_range";
const BAD_STAMP_STATE = "RPB01";

/** The row being tried, as a JSON array of one: the `source` of the statements inside the block. */
export const ROW_SOURCE = "('[' || replicator_line || ']')::json";

/** Where the row being tried comes from, likewise: the `origins` of the log statement. */
export const ROW_ORIGIN = "replicator_origin";

export interface BlockStatements {
  /** Answers with versions, lost, bad, missing, fresh (statements.ts). */
  readonly main: string;
  /** Follows `main` where a row was inserted; null: nothing to sweep. */
  readonly sweep: string | null;
  /** Writes the conflict log (conflict_log.ts), where `main` has met a conflict and was undone. */
  readonly log: string;
  /** Name of the setting that `log` leaves. */
  readonly seen: string;
  readonly early: readonly LateCheck[];
  readonly late: readonly LateCheck[];
}

/** The DO statement. Errors of retryable classes are thrown on: they say nothing about the row. */
export function rowBlock({ main, sweep, log, seen, early, late }: BlockStatements): string {
  const checked = (check: LateCheck) => `
      ${check.statement} INTO replicator_missing;
      IF replicator_missing > 0 THEN
        RAISE EXCEPTION USING ERRCODE = '${check.sqlState}', MESSAGE = ${literal(constraintMessage(check))};
      END IF;`;
  const body = `
#variable_conflict use_variable
DECLARE
  replicator_line text;
  replicator_origin json;
  replicator_met boolean;
  replicator_lines bigint;
  replicator_beaten text;
  replicator_seen bigint;
  replicator_noted boolean;
  replicator_n int := 0;
  replicator_versions text;
  replicator_lost text;
  replicator_bad bigint;
  replicator_missing bigint;
  replicator_fresh bigint;
  replicator_message text;
  replicator_schema text;
  replicator_table text;
  replicator_column text;
  replicator_constraint text;
  replicator_type text;
  replicator_context text;
  replicator_all_versions text[] := '{}';
  replicator_all_lost int[] := '{}';
  replicator_all_lines bigint := 0;
  replicator_all_beaten int[] := '{}';
  replicator_failed json[] := '{}';
BEGIN
  FOR replicator_line, replicator_origin IN
    SELECT e.value::text, json_build_array(json_build_object('first', 1, 'rows', 1, 'event', o.event, 'source', o.source,
      'transaction', o.transaction, 'operation', o.operation))
    FROM json_array_elements(current_setting('replicator.rows')::json) WITH ORDINALITY AS e(value, ord)
    LEFT JOIN (${originsOf("current_setting('replicator.origins')::json")}) AS o ON o.ord = e.ord ORDER BY e.ord
  LOOP
    replicator_met := false;
    LOOP -- a second time after a conflict
      BEGIN
        IF replicator_met THEN
          ${log}
          INTO replicator_lines, replicator_beaten, replicator_seen, replicator_noted;
          PERFORM set_config('replicator.conflicts', '${CONFLICTS_OFF}', true);
        END IF;${early.map(checked).join("")}
        ${main}
        INTO replicator_versions, replicator_lost, replicator_bad, replicator_missing, replicator_fresh;
        IF replicator_bad > 0 THEN
          RAISE EXCEPTION USING ERRCODE = '${BAD_STAMP_STATE}',
            MESSAGE = 'the stamp is out of range: version above 2^53, or updated_at further ahead than max_skew';
        END IF;
        IF replicator_missing > 0 THEN
          RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = 'the row refers to a parent that is not there';
        END IF;
        ${sweep === null ? "" : swept(sweep)}${late.map(checked).join("")}
        replicator_all_versions := replicator_all_versions || coalesce(replicator_versions, 'NULL');
        IF replicator_lost IS NOT NULL THEN
          replicator_all_lost := replicator_all_lost || replicator_n;
        END IF;
        IF replicator_met THEN
          PERFORM set_config('replicator.conflicts', '', true), set_config(${literal(seen)}, '', true);
          replicator_all_lines := replicator_all_lines + replicator_lines;
          IF replicator_beaten IS NOT NULL THEN
            replicator_all_beaten := replicator_all_beaten || replicator_n;
          END IF;
        END IF;
        EXIT;
      EXCEPTION WHEN SQLSTATE '${CONFLICT_FOUND}' THEN
        replicator_met := true;
      WHEN OTHERS THEN
        IF left(SQLSTATE, 2) IN ('08', '25', '40', '53', '55', '57', '58') THEN
          RAISE;
        END IF;
        GET STACKED DIAGNOSTICS replicator_message = MESSAGE_TEXT, replicator_schema = SCHEMA_NAME,
          replicator_table = TABLE_NAME, replicator_column = COLUMN_NAME, replicator_constraint = CONSTRAINT_NAME,
          replicator_type = PG_DATATYPE_NAME, replicator_context = PG_EXCEPTION_CONTEXT;
        replicator_all_versions := replicator_all_versions || 'NULL'::text;
        replicator_failed := replicator_failed
          || json_build_object('n', replicator_n, 'state', SQLSTATE, 'message', left(replicator_message, 2000),
               'facts', json_strip_nulls(json_build_object('schema', nullif(replicator_schema, ''),
                 'table', nullif(replicator_table, ''), 'column', nullif(replicator_column, ''),
                 'constraint', nullif(replicator_constraint, ''), 'type', nullif(replicator_type, ''),
                 'function', CASE WHEN split_part(replicator_context, E'\\n', 1) LIKE '%PL/pgSQL%' THEN
                   substring(split_part(replicator_context, E'\\n', 1) FROM '([^\\s"»«„“]+\\([^()]*\\))') END)));
        EXIT;
      END;
    END LOOP;
    replicator_n := replicator_n + 1;
  END LOOP;
  PERFORM set_config('replicator.result', json_build_object(
    'versions', array_to_string(replicator_all_versions, ','),
    'lost', replicator_all_lost, 'lines', replicator_all_lines, 'beaten', replicator_all_beaten,
    'failed', replicator_failed)::text, true);
END`;
  return `DO ${literal(body)}`;
}

function swept(sweep: string): string {
  return `IF replicator_fresh > 0 THEN
        ${sweep};
        IF FOUND THEN
          replicator_lost := '0';
        END IF;
      END IF;`;
}

interface Answer extends Omit<RowResults, "conflicts"> {
  readonly lines: number;
  readonly beaten: readonly number[];
}

/** Reads what a block has left in `replicator.result`. */
export function parseRowResults(text: string | null | undefined): RowResults {
  if (!text) {
    throw new ReplicatorError({
      code: "apply.no_result",
      message: "Tried rows one by one and found no result of it",
      retry: "backoff",
      fault: "internal",
    });
  }
  // Ordinals, codes and messages; versions stay text (I7).
  const { lines, beaten, ...results } = JSON.parse(text) as Answer;
  const failed = results.failed.map((row) => (row.state === BAD_STAMP_STATE ? { ...row, state: BAD_STAMP } : row));
  const conflicts = lines > 0 ? { lines, lost: beaten, seen: lines } : null;
  return { ...results, failed, conflicts };
}

export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
