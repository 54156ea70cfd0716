/** `replicator conflicts list | show`. */
import type { Command } from "commander";
import { parseDuration } from "../../config/leaf.ts";
import type { Admin, ConflictColumn, ConflictDetail, ConflictLine } from "../../core/admin.ts";
import { type Context, define } from "../context.ts";
import { inputError, type Session } from "../session.ts";
import { withApplying } from "../sites.ts";
import { drawTable } from "../table.ts";

const NEEDS = { database: true };
const SHOWN = 50;
const MOST = 10_000;

export function conflictsCommand(program: Command, context: Context): void {
  const conflicts = program
    .command("conflicts")
    .description("Rows that two contours wrote without having seen each other, and how each was decided");

  const list = conflicts
    .command("list")
    .description("Conflicts, newest first")
    .option("--table <table>", "Only those of one table")
    .option("--since <duration>", "Only those not older than this: 30m, 1h, 7d")
    .option("--limit <n>", `At most so many (default: ${SHOWN}, at most ${MOST})`)
    .option("--json", "One JSON array");
  define(list, async () =>
    withApplying({ ...context, command: list, needs: NEEDS }, (session, admin) => listConflicts(session, admin, list)),
  );

  const show = conflicts
    .command("show")
    .argument("<id>", "As list shows it")
    .description("Everything about one: the row here and the row that came, side by side")
    .option("--json", "One JSON object");
  define(show, async () =>
    withApplying({ ...context, command: show, needs: NEEDS }, async ({ signal, terminal }, admin) => {
      const conflict = await admin.conflictDetail(idOf(show.args[0] ?? ""), signal);
      terminal.out(show.opts().json === true ? JSON.stringify(conflict, null, 2) : drawConflict(conflict));
      return 0;
    }),
  );
}

async function listConflicts({ signal, terminal }: Session, admin: Admin, command: Command): Promise<number> {
  const { table, since, limit, json } = command.opts();
  const filter = {
    table: typeof table === "string" ? table : null,
    sinceMs: typeof since === "string" ? durationOf(since) : null,
  };
  const most = typeof limit === "string" ? limitOf(limit) : SHOWN;
  const lines = await admin.conflicts(filter, most, signal);
  if (json === true) {
    terminal.out(JSON.stringify(lines, null, 2));
    return 0;
  }
  const heads = ["id", "at", "from", "table", "record", "winner", "reason", "policy", "transaction", "torn"];
  terminal.out(drawTable(heads, lines.map(cells)));
  if (lines.length === 0) terminal.say("There are no conflicts");
  if (lines.length === most) terminal.say(`Only the newest ${most} are shown; more: --limit`);
  return 0;
}

function cells(one: ConflictLine): readonly string[] {
  const place = [String(one.id), one.occurred_at, one.source_contour, one.table, one.record_id];
  const decision = [one.winner, reasonOf(one), one.policy];
  return [...place, ...decision, one.transaction_id ?? "", one.torn ? "torn" : ""];
}

function reasonOf({ reason, override }: ConflictLine): string {
  return override === null ? reason : `${override}: ${reason}`;
}

function drawConflict(one: ConflictDetail): string {
  const facts: [string, string][] = [
    ["id", String(one.id)],
    ["at", one.occurred_at],
    ["table", one.table],
    ["record", one.record_id],
    ["winner", one.winner],
    ["reason", reasonOf(one)],
    ["policy", one.policy],
    ["from", one.source_contour],
    ["transaction", `${one.transaction_id ?? ""}${one.torn ? " (torn: other rows of it were not beaten)" : ""}`],
    ["event", one.event_id ?? ""],
  ];
  const width = Math.max(...facts.map(([name]) => name.length));
  const head = facts.map(([name, value]) => `${name.padEnd(width)}  ${value}`.trimEnd()).join("\n");
  if (one.columns.length === 0) return head;
  const rows = one.columns.map((column) => [
    column.differs ? "*" : "",
    column.column,
    shown(column, "local"),
    shown(column, "incoming"),
  ]);
  return `${head}\n\n${drawTable(["", "column", "here", `from ${one.source_contour}`], rows)}`;
}

/** NULL as SQL writes it, a text that reads so in quotes; nothing where that side has no such column. */
function shown(column: ConflictColumn, side: "local" | "incoming"): string {
  const value = column[side];
  if (value === undefined) return "";
  if (value === null) return "NULL";
  return value === "" || value === "NULL" ? JSON.stringify(value) : value;
}

function durationOf(text: string): number {
  const milliseconds = parseDuration(text);
  if (milliseconds !== null) return milliseconds;
  throw inputError("conflicts.bad_since", `Read --since "${text}", expected a duration`, "Write it as 30m, 1h or 7d");
}

function limitOf(text: string): number {
  const limit = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (limit >= 1 && limit <= MOST) return limit;
  throw inputError(
    "conflicts.bad_limit",
    `Read --limit "${text}", expected a whole number from 1 to ${MOST}`,
    `Leave it out for ${SHOWN}`,
  );
}

function idOf(text: string): string {
  if (/^\d{1,18}$/.test(text)) return text;
  throw inputError(
    "conflicts.bad_id",
    `"${text}" is no id of a conflict, expected a number`,
    "replicator conflicts list shows them",
  );
}
