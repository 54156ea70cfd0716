/** `replicator tables add | remove | list`. */
import type { Command } from "commander";
import type { Config, TableConfig } from "../../config/config.ts";
import type { Admin, SequenceSlot, TableOptions } from "../../core/admin.ts";
import { describeError, exitCode, type ReplicatorError } from "../../core/errors.ts";
import { sameTable } from "../../core/table_name.ts";
import { type Context, define } from "../context.ts";
import { inputError, type Session, withAdmin } from "../session.ts";
import { drawTable } from "../table.ts";

const NEEDS = { database: true };

export function tablesCommand(program: Command, context: Context): void {
  const tables = program.command("tables").description("Put tables under replication, take them out, list their state");

  const add = tables
    .command("add")
    .argument("[table...]", "as SQL writes them: users, sales.orders; none: all of critical_tables")
    .description("Add what is missing of the stamp columns and the triggers; a table at a time, safe on a live table")
    .option("--sequence-slot <k/n>", "Let their sequences give values that only contour k of n gives: 1/2, 2/2")
    .option("--dry-run", "Print the DDL and what may break; change nothing");
  define(add, async () =>
    withAdmin({ ...context, command: add, needs: NEEDS }, (session, admin) => addTables(session, admin, add)),
  );

  const remove = tables
    .command("remove")
    .argument("<table...>", "as SQL writes them")
    .description("Take tables out of replication: triggers, tombstones and the columns that add made")
    .option("--keep-columns", "Leave the stamp columns where they are");
  define(remove, async () =>
    withAdmin({ ...context, command: remove, needs: NEEDS }, async (session, admin) => {
      const keep = remove.opts().keepColumns === true;
      return each(session, remove.args, (table) => admin.removeTable(table, keep, session.signal));
    }),
  );

  const list = tables
    .command("list")
    .description("Tables under replication and their state")
    .option("--json", "One JSON array");
  define(list, async () =>
    withAdmin({ ...context, command: list, needs: NEEDS }, async ({ signal, terminal }, admin) => {
      const states = await admin.listTables(signal);
      if (list.opts().json === true) {
        terminal.out(JSON.stringify(states, null, 2));
        return 0;
      }
      const rows = states.map(({ table, key, channel, capture, conflict, state }) => [
        table,
        key.join(", "),
        channel,
        capture,
        conflict,
        state,
      ]);
      terminal.out(drawTable(["table", "key", "channel", "capture", "conflict", "state"], rows));
      return 0;
    }),
  );
}

async function addTables(session: Session, admin: Admin, command: Command): Promise<number> {
  const { config, signal } = session;
  const named = command.args.length > 0 ? command.args : config.critical_tables.map(({ name }) => name);
  if (named.length === 0) {
    throw inputError(
      "tables.none",
      "Cannot add tables: none is named and critical_tables is empty",
      "replicator tables add <table>",
    );
  }
  const opts = command.opts();
  const dryRun = opts.dryRun === true;
  const sequenceSlot = slotOf(opts.sequenceSlot);
  const add = (table: string) => admin.addTable(table, { ...optionsOf(config, table), sequenceSlot }, dryRun, signal);
  return each(session, named, add, dryRun);
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

function optionsOf(config: Config, table: string): TableOptions {
  const configured: TableConfig | undefined = config.critical_tables.find(({ name }) => sameTable(name, table));
  if (!configured) return {};
  const { primary_key: primaryKey, capture, conflict, exclude_columns: excludeColumns } = configured;
  return { primaryKey, capture, conflict, excludeColumns };
}
