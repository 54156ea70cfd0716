/**
 * The second try (architecture §7.3): the rows of a chunk one by one, each in a subtransaction of its own, inside
 * PostgreSQL: one round trip a chunk. The rows come in the setting `replicator.rows` (a JSON array), what became of them
 * is left in `replicator.result`; both are transaction-local.
 */
import { ReplicatorError } from "../../../src/core/errors.ts";
import { constraintMessage, type LateCheck } from "./checks.ts";

export interface FailedRow {
  /** Ordinal from 0 among the rows tried. */
  readonly n: number;
  /** SQLSTATE, or one of our dotted codes. */
  readonly state: string;
  readonly message: string;
}

export interface RowResults {
  /** Of every row, joined by commas; NULL where the row failed. */
  readonly versions: string;
  /** Ordinals of the rows a greater stamp has beaten. */
  readonly lost: readonly number[];
  readonly failed: readonly FailedRow[];
}

/** Our own condition inside the block: a stamp out of range (architecture §6.8). */
export const BAD_STAMP = "apply.stamp_out_of_range";
const BAD_STAMP_STATE = "RPB01";

/** The row being tried, as a JSON array of one: the `source` of the statements inside the block. */
export const ROW_SOURCE = "('[' || replicator_line || ']')::json";

/**
 * The DO statement. `statement` answers with versions, lost, bad, missing, fresh (statements.ts); `sweep` and `checks` follow it.
 * Errors of retryable classes are thrown on: they say nothing about the row.
 */
export function rowBlock(statement: string, sweep: string | null, checks: readonly LateCheck[]): string {
  const late = checks.map(
    (check) => `
      ${check.statement} INTO replicator_missing;
      IF replicator_missing > 0 THEN
        RAISE EXCEPTION USING ERRCODE = '${check.sqlState}', MESSAGE = ${literal(constraintMessage(check))};
      END IF;`,
  );
  const body = `
#variable_conflict use_variable
DECLARE
  replicator_line text;
  replicator_n int := 0;
  replicator_versions text;
  replicator_lost text;
  replicator_bad bigint;
  replicator_missing bigint;
  replicator_fresh bigint;
  replicator_message text;
  replicator_all_versions text[] := '{}';
  replicator_all_lost int[] := '{}';
  replicator_failed json[] := '{}';
BEGIN
  FOR replicator_line IN SELECT value::text FROM json_array_elements(current_setting('replicator.rows')::json) LOOP
    BEGIN
      ${statement}
      INTO replicator_versions, replicator_lost, replicator_bad, replicator_missing, replicator_fresh;
      IF replicator_bad > 0 THEN
        RAISE EXCEPTION USING ERRCODE = '${BAD_STAMP_STATE}',
          MESSAGE = 'the stamp is out of range: version above 2^53, or updated_at further ahead than max_skew';
      END IF;
      IF replicator_missing > 0 THEN
        RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = 'the row refers to a parent that is not there';
      END IF;
      ${sweep === null ? "" : swept(sweep)}${late.join("")}
      replicator_all_versions := replicator_all_versions || coalesce(replicator_versions, 'NULL');
      IF replicator_lost IS NOT NULL THEN
        replicator_all_lost := replicator_all_lost || replicator_n;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      IF left(SQLSTATE, 2) IN ('08', '25', '40', '53', '55', '57', '58') THEN
        RAISE;
      END IF;
      GET STACKED DIAGNOSTICS replicator_message = MESSAGE_TEXT;
      replicator_all_versions := replicator_all_versions || 'NULL'::text;
      replicator_failed := replicator_failed
        || json_build_object('n', replicator_n, 'state', SQLSTATE, 'message', left(replicator_message, 2000));
    END;
    replicator_n := replicator_n + 1;
  END LOOP;
  PERFORM set_config('replicator.result', json_build_object(
    'versions', array_to_string(replicator_all_versions, ','),
    'lost', replicator_all_lost, 'failed', replicator_failed)::text, true);
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
  const results = JSON.parse(text) as RowResults;
  const failed = results.failed.map((row) => (row.state === BAD_STAMP_STATE ? { ...row, state: BAD_STAMP } : row));
  return { ...results, failed };
}

export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
