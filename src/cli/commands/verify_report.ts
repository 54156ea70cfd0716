/** What `verify` found, for a person: processes, databases, comparison, last rows, lag. */
import type { SideFacts } from "../../core/verify.ts";
import type {
  ComparisonReport,
  NewestRow,
  RowDifference,
  TableReport,
  Verdict,
  VerifyReport,
} from "../../verify/report.ts";
import { drawTable } from "../table.ts";

const COLOURS: Readonly<Record<Verdict, string>> = { equal: "32", "in flight": "33", different: "31" };
const KEY_WIDTH = 60;

/** @returns lines for stdout, coloured when `colour` */
export function drawVerify(report: VerifyReport, colour: boolean): string {
  const paint = (verdict: Verdict, text: string = verdict) =>
    colour ? `\u001b[${COLOURS[verdict]}m${text}\u001b[0m` : text;
  const parts = [section("Processes", drawProcess(report))];
  for (const comparison of report.comparisons) {
    parts.push(
      section("Databases", drawDatabases(report, comparison)),
      section("Comparison", drawComparison(comparison, paint)),
      ...listed(comparison, paint),
      section("Last rows", drawNewest(comparison)),
      section("Lag", drawLag(report, comparison)),
    );
  }
  parts.push(conclusion(report, paint));
  return parts.join("\n\n");
}

function section(head: string, body: string): string {
  return `── ${head} ──\n${body}`;
}

function drawProcess({ process }: VerifyReport): string {
  if (!process) return "No process answers here: the databases alone are compared";
  const { url, role, ready, reasons, lag_seconds, lag_level } = process;
  const state = ready ? "ready" : `not ready: ${reasons.join("; ")}`;
  return `${url}  ${role}  ${state}  lag ${rounded(lag_seconds)} s (${lag_level})`;
}

function drawDatabases(report: VerifyReport, { against, there }: ComparisonReport): string {
  const { here } = report;
  const line = (name: string, value: (facts: SideFacts) => number | null | undefined) => [
    name,
    shown(value(here)),
    shown(value(there)),
  ];
  return drawTable(
    ["", "here", "there"],
    [
      ["database", report.database, against],
      ["contour", here.contour ?? "not installed", there.contour ?? "not installed"],
      line("queue: not published", ({ queue }) => queue?.unpublished),
      line("queue: changes in it", ({ queue }) => queue?.total),
      line("inbox: parked", ({ inbox }) => inbox?.parked),
      line("inbox: dead letters", ({ inbox }) => inbox?.dead),
      line("applied", ({ processed }) => processed?.total),
    ],
  );
}

function drawComparison({ tables }: ComparisonReport, paint: (verdict: Verdict) => string): string {
  return drawTable(
    ["table", "rows here", "rows there", "only here", "only there", "different", "in flight", "verdict"],
    tables.map((table) => [
      table.table,
      shown(table.rows_here),
      shown(table.rows_there),
      ...[table.only_here, table.only_there, table.different, table.in_flight].map(String),
      paint(table.verdict),
    ]),
  );
}

/** What differs, table by table. */
function listed({ tables }: ComparisonReport, paint: (verdict: Verdict, text?: string) => string): string[] {
  return tables
    .filter(({ verdict }) => verdict !== "equal")
    .map((table) => {
      const lines = table.differences.map((one) =>
        paint(one.in_flight ? "in flight" : "different", drawDifference(one)),
      );
      if (table.problem !== null) lines.unshift(paint("different", `Not compared: ${table.problem}`));
      for (const [names, where] of [
        [table.columns_only_here, "here"],
        [table.columns_only_there, "there"],
      ] as const) {
        if (names.length > 0) lines.unshift(paint("different", `Columns only ${where}: ${names.join(", ")}`));
      }
      const all = table.only_here + table.only_there + table.different + table.in_flight;
      const more = all - table.differences.length;
      if (more > 0) lines.push(`and ${more} more (--limit)`);
      return section(table.table, lines.join("\n"));
    });
}

function drawDifference({ kind, key, columns, here, there, in_flight }: RowDifference): string {
  const what = kind === "different" ? `differs in ${columns.join(", ") || "nothing any more"}` : kind;
  const versions = [here && `version ${here.version ?? "?"} here`, there && `${there.version ?? "?"} there`];
  const stamps = kind === "different" ? ` (${versions.filter(Boolean).join(", ")})` : "";
  return `${keyText(key)}  ${what}${stamps}${in_flight ? ", in flight" : ""}`;
}

function drawNewest({ tables }: ComparisonReport): string {
  const rows = tables.flatMap((table) => {
    const depth = Math.max(table.newest_here.length, table.newest_there.length);
    return Array.from({ length: depth }, (_, n) => [
      n === 0 ? table.table : "",
      newest(table.newest_here[n]),
      newest(table.newest_there[n]),
    ]);
  });
  return rows.length === 0 ? "There are no rows" : drawTable(["table", "here", "there"], rows);
}

function newest(row: NewestRow | undefined): string {
  return row === undefined ? "" : `${keyText(row.key)} at ${row.updated_at}`;
}

function drawLag({ here }: VerifyReport, { there, tables }: ComparisonReport): string {
  const ago = (seconds: number | null | undefined) =>
    typeof seconds === "number" ? `${rounded(seconds)} s ago` : "never";
  const rows = [
    ["last captured", ago(here.queue?.last_captured_seconds), ago(there.queue?.last_captured_seconds)],
    ["last applied", ago(here.processed?.last_applied_seconds), ago(there.processed?.last_applied_seconds)],
    [
      "oldest not published",
      `${rounded(here.queue?.oldest_seconds ?? 0)} s`,
      `${rounded(there.queue?.oldest_seconds ?? 0)} s`,
    ],
  ];
  const behind = tables
    .filter(({ lag_seconds }) => lag_seconds > 0)
    .map(({ table, lag_seconds }) => `${table}: oldest change not published is ${rounded(lag_seconds)} s old`);
  return [drawTable(["", "here", "there"], rows), ...behind].join("\n");
}

function conclusion(
  { verdict, comparisons }: VerifyReport,
  paint: (verdict: Verdict, text?: string) => string,
): string {
  const tables = comparisons.flatMap((one) => one.tables);
  const compared = `${tables.length} ${tables.length === 1 ? "table" : "tables"}`;
  const count = (of: Verdict) => tables.filter((table: TableReport) => table.verdict === of).length;
  if (verdict === "equal") return paint(verdict, `Equal: ${compared} compared`);
  const moving = count("in flight");
  const rest = moving > 0 ? `${moving} with changes that are still on their way` : "";
  const differing = count("different") > 0 ? `${count("different")} different` : "";
  return paint(verdict, `Of ${compared} compared: ${[differing, rest].filter(Boolean).join(", ")}`);
}

function keyText(key: Readonly<Record<string, string>>): string {
  const text = Object.entries(key)
    .map(([name, value]) => `${name}=${value}`)
    .join(", ");
  return text.length > KEY_WIDTH ? `${text.slice(0, KEY_WIDTH - 1)}…` : text;
}

function shown(value: number | null | undefined): string {
  return value === null || value === undefined ? "-" : String(value);
}

function rounded(seconds: number): number {
  return Math.round(seconds * 1_000) / 1_000;
}
