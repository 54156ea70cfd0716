/** The command line: commands, their help, and what a mistyped word meant. */
import { Command, CommanderError } from "commander";
import { nearest } from "../config/nearest.ts";
import { redactUrls } from "../config/redact.ts";
import { VERSION } from "../core/version.ts";
import { checkCommand } from "./commands/check.ts";
import { configCommand } from "./commands/config.ts";
import { conflictsCommand } from "./commands/conflicts.ts";
import { demoCommand } from "./commands/demo.ts";
import { generateCommand } from "./commands/generate.ts";
import { parkedCommand } from "./commands/parked.ts";
import { runCommand } from "./commands/run.ts";
import { setupCommand } from "./commands/setup.ts";
import { snapshotCommand } from "./commands/snapshot.ts";
import { statusCommand } from "./commands/status.ts";
import { tablesCommand } from "./commands/tables.ts";
import { verifyCommand } from "./commands/verify.ts";
import { type Context, define, resultOf } from "./context.ts";
import { addConfigFlags, failure } from "./session.ts";
import type { Terminal } from "./terminal.ts";

const EXIT_USAGE = 2;
const HELP_WIDTH = 100;

export function createProgram(context: Context): Command {
  const { terminal } = context;
  const program = new Command("replicator");
  program
    .description(
      "Replicates PostgreSQL changes between sites that share nothing but a message broker (Kafka or NATS JetStream)",
    )
    .exitOverride()
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => terminal.out(text.trimEnd()),
      writeErr: (text) => terminal.say(text.trimEnd()),
      outputError: () => undefined,
      getOutHelpWidth: () => HELP_WIDTH,
      getErrHelpWidth: () => HELP_WIDTH,
    })
    .addHelpText(
      "after",
      "\nEvery key of the configuration can also come from the environment: DATABASE_URL, KAFKA_BROKERS, …\nAll of them: replicator config schema, config/replicator.example.yaml",
    );
  addConfigFlags(program);
  for (const add of [
    runCommand,
    demoCommand,
    setupCommand,
    tablesCommand,
    checkCommand,
    statusCommand,
    snapshotCommand,
    verifyCommand,
    parkedCommand,
    conflictsCommand,
    generateCommand,
    configCommand,
  ]) {
    add(program, context);
  }
  const version = program.command("version").description("Print the version");
  define(version, async () => {
    terminal.out(VERSION);
    return 0;
  });
  return program;
}

/** Runs one command line, without the program's name. Never throws; the exit code comes back. */
export async function runCli(args: readonly string[], context: Context): Promise<number> {
  const program = createProgram(context);
  inheritSettings(program);
  try {
    await program.parseAsync([...args], { from: "user" });
    return resultOf(program);
  } catch (error) {
    if (error instanceof CommanderError) return usage(error, program, context.terminal);
    const { text, code } = failure(error);
    context.terminal.say(`replicator: ${redactUrls(text)}`);
    return code;
  }
}

/** Subcommands throw instead of exiting as well. */
function inheritSettings(command: Command): void {
  for (const child of command.commands) {
    child.copyInheritedSettings(command);
    child.helpCommand(false);
    inheritSettings(child);
  }
}

function usage(error: CommanderError, program: Command, terminal: Terminal): number {
  if (error.exitCode === 0) return 0;
  // A group without its subcommand prints its help to stderr and nothing else.
  if (error.code === "commander.help") return EXIT_USAGE;
  const word = unknownCommand(error, program);
  if (word === null) {
    terminal.say(`replicator: ${capitalized(error.message.replace(/^error: /, ""))}`);
  } else {
    const meant = nearest(
      word,
      program.commands.map((command) => command.name()),
    );
    terminal.say(`replicator: Unknown command "${word}"${meant ? `\n(Did you mean ${meant}?)` : ""}`);
  }
  terminal.say("  All commands and flags: replicator --help");
  return EXIT_USAGE;
}

/** A word that names no command reaches the default command as an argument too many. */
function unknownCommand(error: CommanderError, program: Command): string | null {
  if (error.code !== "commander.excessArguments") return null;
  const run = program.commands.find((command) => command.name() === "run");
  return program.args[0] === "run" ? null : (run?.args[0] ?? null);
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
