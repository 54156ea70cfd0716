/** `replicator tables add | remove | list`. */
import type { Command } from "commander";
import type { Config } from "../../config/config.ts";
import { tablesOf } from "../../config/tables.ts";
import type { SequenceSlot, TableOptions, TableState } from "../../core/admin.ts";
import { describeError, exitCode, type ReplicatorError } from "../../core/errors.ts";
import { sameTable } from "../../core/table_name.ts";
import { targetFits } from "../../direct/table_fit.ts";
import { type Context, define } from "../context.ts";
import { inputError, type Session } from "../session.ts";
import { prefix, type Site, withSites, withTwoSites } from "../sites.ts";
import { drawTable } from "../table.ts";
import { sendSnapshot } from "./snapshot.ts";

const NEEDS = { database: true };

export function tablesCommand(program: Command, context: Context): void {
  const tables = program.command("tables").description("Put tables under replication, take them out, list their state");

  const add = tables
    .command("add")
    .argument("[table...]", "as SQL writes them: users, sales.orders; none: all that are configured")
    .description("Add what is missing of the stamp columns and the triggers; a table at a time, safe on a live table")
    .option("--sequence-slot <k/n>", "Let their sequences give values that only contour k of n gives: 1/2, 2/2")
    .option("--snapshot", "Send the rows they have already, as replicator snapshot does")
    .option("--dry-run", "Print the DDL and what may break; change nothing");
  define(add, async () =>
    withTwoSites({ ...context, command: add, needs: NEEDS }, (session, sites) => addTables(session, sites, add)),
  );

  const remove = tables
    .command("remove")
    .argument("<table...>", "as SQL writes them")
    .description("Take tables out of replication: triggers, tombstones and the columns that add made")
    .option("--keep-columns", "Leave the stamp columns where they are");
  define(remove, async () =>
    withTwoSites({ ...context, command: remove, needs: NEEDS }, async (session, sites) => {
      const keep = remove.opts().keepColumns === true;
      return each(session, remove.args, async (table) => {
        const lines: string[] = [];
        for (const site of sites) {
          const removed = await site.admin.removeTable(table, keep, session.signal);
          lines.push(...removed.map((line) => `${prefix(site)}${line}`));
        }
        return lines;
      });
    }),
  );

  const list = tables
    .command("list")
    .description("Tables under replication and their state")
    .option("--json", "One JSON array");
  define(list, async () =>
    withSites({ ...context, command: list, needs: NEEDS }, async ({ signal, terminal }, sites) => {
      const listed = sites.map(async ({ side, admin }) => {
        const tables = await admin.listTables(signal);
        return side === null ? tables : tables.map((table) => ({ side, ...table }));
      });
      const states: readonly (TableState & { readonly side?: string })[] = (await Promise.all(listed)).flat();
      if (list.opts().json === true) {
        terminal.out(JSON.stringify(states, null, 2));
        return 0;
      }
      const heads = ["table", "key", "channel", "capture", "conflict", "state"];
      const rows = states.map(({ side, table, key, channel, capture, conflict, state }) => [
        ...(side === undefined ? [] : [side]),
        table,
        key.join(", "),
        channel,
        capture,
        conflict,
        state,
      ]);
      terminal.out(drawTable(sites.length > 1 ? ["database", ...heads] : heads, rows));
      return 0;
    }),
  );
}

async function addTables(session: Session, sites: readonly Site[], command: Command): Promise<number> {
  const { config, signal } = session;
  const named = command.args.length > 0 ? command.args : tablesOf(config).map(({ name }) => name);
  if (named.length === 0) {
    throw inputError(
      "tables.none",
      "Cannot add tables: none is named and none is configured",
      "replicator tables add <table>",
    );
  }
  const opts = command.opts();
  const dryRun = opts.dryRun === true;
  const sequenceSlot = slotOf(opts.sequenceSlot);
  const snapshot = opts.snapshot === true;
  if (snapshot && dryRun)
    throw inputError(
      "tables.bad_flags",
      "Read --dry-run and --snapshot: a dry run sends no rows",
      "Leave one of them out",
    );
  const add = async (table: string) => {
    const options = { ...optionsOf(config, table), sequenceSlot };
    const fit = sites.length > 1 ? await fitOf(table, options, sites, signal) : null;
    // The DDL of a dry run is to be run as it stands.
    const lines = (fit?.notes ?? []).map((line) => (dryRun ? `-- ${line}` : line));
    for (const site of sites) {
      const own = site.side === "target" ? { ...options, excludeColumns: fit?.excludedThere } : options;
      const added = await site.admin.addTable(table, own, dryRun, signal);
      if (dryRun && site.side !== null) lines.push(`-- at the ${site.side}, ${site.admin.label}`);
      lines.push(...(dryRun ? added : added.map((line) => `${prefix(site)}${line}`)));
    }
    return lines;
  };
  if (!snapshot) return each(session, named, add, dryRun);
  const added: string[] = [];
  const noted = async (table: string) => {
    const lines = await add(table);
    added.push(table);
    return lines;
  };
  const code = await each(session, named, noted);
  if (added.length === 0) return code;
  const [source] = sites;
  if (!source) throw new RangeError("There is a database to add tables to");
  return Math.max(code, await sendSnapshot(session, source.admin, { tables: added }));
}

/** The table at the source against its namesake at the target, before either is changed. @throws ReplicatorError `tables.target_…` */
async function fitOf(table: string, options: TableOptions, sites: readonly Site[], signal: AbortSignal) {
  const [source, target] = sites;
  if (!source || !target) throw new RangeError("Direct mode has two databases");
  const [here, there] = await Promise.all([
    source.admin.tableShape(table, signal),
    target.admin.tableShape(table, signal),
  ]);
  const excluded = options.excludeColumns ?? [];
  const excludedThere = there?.columns.map(({ name }) => name).filter((name) => excluded.includes(name));
  // What is missing at the source adding it says.
  if (!here) return { notes: [], excludedThere };
  const labels = { sourceLabel: source.admin.label, targetLabel: target.admin.label };
  const named = { ...source.config.database.columns, ...options.columns };
  const stamps = Object.values(named).flatMap((name) => name ?? []);
  const notes = targetFits({ table, source: here, target: there, ...labels, excluded, stamps });
  return { notes, excludedThere };
}

/** `2/3`: place 2 of 3. @throws ReplicatorError `tables.bad_slot` */
function slotOf(text: unknown): SequenceSlot | undefined {
  if (text === undefined) return undefined;
  const [, place = 0, of = 0] = (/^(\d{1,9})\/(\d{1,9})$/.exec(String(text)) ?? []).map(Number);
  if (place >= 1 && place <= of) return { place, of };
  throw inputError(
    "tables.bad_slot",
    `Read --sequence-slot "${String(text)}", expected the place of this contour among all, such as 1/2 and 2/2 for two contours`,
    "replicator check says which slot this contour has",
  );
}

/** One after the other; a table that is refused does not keep the rest from their turn. The DDL of a dry run goes to stdout. */
async function each(
  { terminal, redact }: Session,
  tables: readonly string[],
  work: (table: string) => Promise<readonly string[]>,
  toStdout = false,
): Promise<number> {
  let code = 0;
  for (const table of tables) {
    try {
      for (const line of await work(table)) (toStdout ? terminal.out : terminal.say)(line);
    } catch (error) {
      if (!isKnown(error)) throw error;
      terminal.say(`replicator: ${redact(describeError(error))}`);
      code = Math.max(code, exitCode(error));
    }
  }
  return code;
}

/** Errors about one table; anything else (the database away, a wrong password) ends the command. */
function isKnown(error: unknown): error is ReplicatorError {
  return error instanceof Error && /^tables\./.test(String(Reflect.get(error, "code")));
}

/** What the configuration says of a table; nothing where it does not name it. */
export function optionsOf(config: Config, table: string): TableOptions {
  const configured = tablesOf(config).find(({ name }) => sameTable(name, table));
  if (!configured) return {};
  const { primary_key: primaryKey, capture, conflict, exclude_columns: excludeColumns, stamp, columns } = configured;
  return { primaryKey, capture, conflict, excludeColumns, stamp, columns };
}
