/** What `verify` found: the object `--json` prints. */
import type { SideFacts } from "../core/verify.ts";

/** equal; in flight: what differs may still be on its way; different. */
export type Verdict = "equal" | "in flight" | "different";

/** Stamps are text as PostgreSQL writes them, null where they are not known. */
export interface StampText {
  readonly version: string | null;
  readonly updated_at: string | null;
  readonly updated_by: string | null;
}

export interface RowDifference {
  readonly kind: "only here" | "only there" | "different";
  readonly key: Readonly<Record<string, string>>;
  /** Of a row that is at both: what differs. */
  readonly columns: readonly string[];
  readonly here: StampText | null;
  readonly there: StampText | null;
  /** Something about it may still be on its way. */
  readonly in_flight: boolean;
}

export interface NewestRow {
  readonly key: Readonly<Record<string, string>>;
  readonly updated_at: string;
}

export interface TableReport {
  readonly table: string;
  readonly verdict: Verdict;
  /** Null where the rows could not be compared. */
  readonly rows_here: number | null;
  readonly rows_there: number | null;
  readonly only_here: number;
  readonly only_there: number;
  readonly different: number;
  readonly in_flight: number;
  /** Columns that only one of the tables has; those that are generated or excluded do not count. */
  readonly columns_only_here: readonly string[];
  readonly columns_only_there: readonly string[];
  /** Why the rows were not compared, or null. */
  readonly problem: string | null;
  /** Age of the oldest change of the table that waits to be published, here or there; 0 when none does. */
  readonly lag_seconds: number;
  readonly newest_here: readonly NewestRow[];
  readonly newest_there: readonly NewestRow[];
  /** The first that were found, at most `--limit`. */
  readonly differences: readonly RowDifference[];
}

export interface ComparisonReport {
  readonly against: string;
  readonly verdict: Verdict;
  readonly there: SideFacts;
  readonly tables: readonly TableReport[];
}

/** What the running process says of itself; null where none answers. */
export interface ProcessReport {
  readonly url: string;
  readonly role: string;
  readonly lag_seconds: number;
  readonly lag_level: string;
  readonly ready: boolean;
  readonly reasons: readonly string[];
}

export interface VerifyReport {
  readonly verdict: Verdict;
  readonly database: string;
  readonly process: ProcessReport | null;
  readonly here: SideFacts;
  readonly comparisons: readonly ComparisonReport[];
}

/** The worst of them; equal when there is none. */
export function worst(verdicts: readonly Verdict[]): Verdict {
  return verdicts.find((one) => one === "different") ?? verdicts.find((one) => one === "in flight") ?? "equal";
}
