/** `replicator generate`: a data generator for trying things out. */
import type { Command } from "commander";
import { GENERATED_TABLES, type GeneratedTable, type GeneratorTotals } from "../../core/admin.ts";
import { systemClock } from "../../core/clock.ts";
import { type Context, define } from "../context.ts";
import { inputError, withAdmin } from "../session.ts";
import { optionsOf } from "./tables.ts";

/** Row changes one connection makes a second without strain. */
const PER_CONNECTION = 500;
const MOST_CONNECTIONS = 8;
/** Connections that keep a small machine busy. */
const UNTHROTTLED_CONNECTIONS = 4;
/** Row changes of one round, as GENERATION_INTERVAL spaces them. */
const ROUND = 8;

export function generateCommand(program: Command, context: Context): void {
  const command = program
    .command("generate")
    .description(
      "Make tables for trying things out if missing, put them under replication, and write to them until stopped",
    )
    .option(
      "--tables <names>",
      `Tables to write to, parents come along: ${GENERATED_TABLES.join(", ")} (default: users,payments)`,
    )
    .option("--rate <changes>", "Row changes a second, or max (default: one round of writes each GENERATION_INTERVAL)")
    .option("--seconds <seconds>", "Stop after so long");
  define(command, async () =>
    withAdmin({ ...context, command, needs: { database: true } }, async ({ config, signal, terminal }, admin) => {
      const opts = command.opts();
      const tables = tablesOf(opts.tables);
      const rate =
        opts.rate === "max"
          ? null
          : (positive(opts.rate, "--rate", " or max") ?? (ROUND * 1_000) / Math.max(1, config.generator.interval));
      const seconds = positive(opts.seconds, "--seconds");
      const connections =
        rate === null
          ? UNTHROTTLED_CONNECTIONS
          : Math.min(MOST_CONNECTIONS, Math.max(1, Math.ceil(rate / PER_CONNECTION)));
      for (const line of await admin.prepareGenerator(signal, tables, (table) => optionsOf(config, table)))
        terminal.say(line);
      const until = seconds === null ? signal : AbortSignal.any([signal, AbortSignal.timeout(seconds * 1_000)]);
      const speed =
        rate === null
          ? "As many row changes as this machine makes"
          : `${Math.round(rate * 10) / 10} row changes a second`;
      terminal.say(
        `Writing ${speed.charAt(0).toLowerCase()}${speed.slice(1)} to ${tables.join(", ")} of ${admin.label}; stop with Ctrl-C`,
      );
      const redraw = terminal.sayIsTerminal;
      let last = 0;
      const began = systemClock.monotonic();
      const totals = await admin.generate(
        {
          rate,
          connections,
          tables,
          onProgress: (done) => {
            // A line a second is for a terminal; a log gets one each ten seconds.
            if (!redraw && Date.now() - last < 10_000) return;
            last = Date.now();
            terminal.say(summary(done, systemClock.monotonic() - began));
          },
        },
        until,
      );
      terminal.say(`Done: ${summary(totals, systemClock.monotonic() - began)}`);
      return 0;
    }),
  );
}

function summary({ inserted, updated, deleted }: GeneratorTotals, elapsedMs: number): string {
  const rate = Math.round(((inserted + updated + deleted) * 1_000) / Math.max(1, elapsedMs));
  return `${inserted} inserted, ${updated} updated, ${deleted} deleted, ${rate} a second`;
}

function tablesOf(given: unknown): readonly GeneratedTable[] {
  if (typeof given !== "string") return ["users", "payments"];
  const names = given.split(",").map((name) => name.trim());
  const known = names.map((name) => GENERATED_TABLES.find((table) => table === name));
  const unknown = names.filter((_, n) => known[n] === undefined);
  if (unknown.length === 0) return known.filter((table) => table !== undefined);
  throw inputError(
    "cli.bad_value",
    `Read --tables "${given}", found no "${unknown.join('", "')}" among ${GENERATED_TABLES.join(", ")}`,
  );
}

function positive(text: unknown, flag: string, or = ""): number | null {
  if (typeof text !== "string") return null;
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw inputError("cli.bad_value", `Read ${flag} "${text}", expected a number above 0${or}`);
}
