/** `replicator demo`. */
import type { Command } from "commander";
import { type Context, define } from "../context.ts";
import { inputError, withSession } from "../session.ts";

const EXIT_DIFFERENCE = 4;

export function demoCommand(program: Command, context: Context): void {
  const command = program
    .command("demo")
    .description(
      "Two embedded PostgreSQL, the memory broker, a generator at both contours, a live screen, and a proof of equality",
    )
    .option("--seconds <seconds>", "How long to write", "20")
    .option("--rate <changes>", "Row changes a second at each contour", "200");
  define(command, async () =>
    withSession(
      { ...context, command, needs: {}, quiet: true },
      async ({ logger, signal, signals, terminal, engine }) => {
        const { seconds, rate } = command.opts();
        const equal = await engine.demo({
          seconds: positive(seconds, "--seconds"),
          rate: positive(rate, "--rate"),
          logger,
          signal,
          write: terminal.write,
          terminal: terminal.sayIsTerminal,
        });
        if (equal === null) return signals.forcedCode ?? 0;
        return equal ? 0 : EXIT_DIFFERENCE;
      },
    ),
  );
}

function positive(text: unknown, flag: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw inputError("cli.bad_value", `Read ${flag} "${String(text)}", expected a number above 0`);
}
