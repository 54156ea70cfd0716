/** `replicator generate`: a data generator for trying things out. */
import type { Command } from "commander";
import type { GeneratorTotals } from "../../core/admin.ts";
import { type Context, define } from "../context.ts";
import { inputError, withAdmin } from "../session.ts";

/** Row changes one connection makes a second without strain. */
const PER_CONNECTION = 500;
const MOST_CONNECTIONS = 8;
/** Row changes of one round, as GENERATION_INTERVAL spaces them. */
const ROUND = 8;

export function generateCommand(program: Command, context: Context): void {
  const command = program
    .command("generate")
    .description(
      "Make the tables users and payments if missing, put them under replication, and write to them until stopped",
    )
    .option("--rate <changes>", "Row changes a second (default: one round of writes each GENERATION_INTERVAL)")
    .option("--seconds <seconds>", "Stop after so long");
  define(command, async () =>
    withAdmin({ ...context, command, needs: { database: true } }, async ({ config, signal, terminal }, admin) => {
      const opts = command.opts();
      const rate = positive(opts.rate, "--rate") ?? (ROUND * 1_000) / Math.max(1, config.generator.interval);
      const seconds = positive(opts.seconds, "--seconds");
      const connections = Math.min(MOST_CONNECTIONS, Math.max(1, Math.ceil(rate / PER_CONNECTION)));
      for (const line of await admin.prepareGenerator(signal)) terminal.say(line);
      const until = seconds === null ? signal : AbortSignal.any([signal, AbortSignal.timeout(seconds * 1_000)]);
      terminal.say(
        `Writing ${Math.round(rate * 10) / 10} row changes a second to users and payments of ${admin.label}; stop with Ctrl-C`,
      );
      const redraw = terminal.sayIsTerminal;
      let last = 0;
      const totals = await admin.generate(
        {
          rate,
          connections,
          onProgress: (done) => {
            // A line a second is for a terminal; a log gets one each ten seconds.
            if (!redraw && Date.now() - last < 10_000) return;
            last = Date.now();
            terminal.say(summary(done));
          },
        },
        until,
      );
      terminal.say(`Done: ${summary(totals)}`);
      return 0;
    }),
  );
}

function summary({ inserted, updated, deleted }: GeneratorTotals): string {
  return `${inserted} inserted, ${updated} updated, ${deleted} deleted`;
}

function positive(text: unknown, flag: string): number | null {
  if (typeof text !== "string") return null;
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw inputError("cli.bad_value", `Read ${flag} "${text}", expected a number above 0`);
}
