/** Compares this contour with another one, table by table, through the port of core/verify.ts. */
import type { Clock } from "../core/clock.ts";
import { ReplicatorError } from "../core/errors.ts";
import { parseTableName, sameTable, type TableName } from "../core/table_name.ts";
import type { SideFacts, VerifySide } from "../core/verify.ts";
import { markDelivery } from "./delivery.ts";
import { Patience } from "./patience.ts";
import { type ComparisonReport, type TableReport, worst } from "./report.ts";
import { type Progress, verifyTable } from "./verify_table.ts";

export interface VerifyOptions {
  readonly here: VerifySide;
  readonly there: VerifySide;
  readonly hereFacts: SideFacts;
  /** As SQL writes them. */
  readonly tables: readonly string[];
  /** Differences listed of each table. */
  readonly limit: number;
  /** How long rows that are on their way are waited for, all tables together; milliseconds. */
  readonly waitMs: number;
  readonly chunkRows: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  onProgress(progress: Progress): void;
}

/** @throws ReplicatorError `verify.same_contour`, and what the databases say */
export async function verify(options: VerifyOptions): Promise<ComparisonReport> {
  const { here, there, hereFacts, clock, signal } = options;
  const thereFacts = await there.facts(signal);
  if (hereFacts.contour !== null && hereFacts.contour === thereFacts.contour) throw sameContour(options, hereFacts);
  const sides = { here, there, hereName: hereFacts.contour, thereName: thereFacts.contour };
  const patience = new Patience(options.waitMs, clock);
  const tables: TableReport[] = [];
  for (const written of options.tables) {
    const table = { ...nameOf(written), written };
    const lagSeconds = Math.max(0, ...[hereFacts, thereFacts].flatMap((facts) => lagOf(facts, written)));
    const report = await verifyTable({
      ...options,
      table,
      lagSeconds,
      patience,
      mark: () => markDelivery(sides, signal),
    });
    tables.push(report);
  }
  return {
    against: there.label,
    verdict: worst(tables.map(({ verdict }) => verdict)),
    there: thereFacts,
    tables,
  };
}

/** Age of the oldest change of the table that waits to be published, if one does. */
function lagOf({ waiting }: SideFacts, table: string): number[] {
  return Object.entries(waiting).flatMap(([name, { oldest_seconds }]) =>
    sameTable(name, table) ? [oldest_seconds] : [],
  );
}

function nameOf(written: string): TableName {
  const name = parseTableName(written);
  if (name) return name;
  throw new ReplicatorError({
    code: "verify.bad_table",
    message: `"${written}" is no table name`,
    retry: "never",
    fault: "input",
    remedy: 'Write it as SQL does: users, sales.orders, "My Schema"."Order"',
  });
}

function sameContour({ here, there }: VerifyOptions, { contour }: SideFacts): ReplicatorError {
  return new ReplicatorError({
    code: "verify.same_contour",
    message: `Cannot compare ${here.label} with ${there.label}: both are contour "${contour}"`,
    retry: "never",
    fault: "input",
    remedy: "Name the other contour's database with --against",
  });
}
