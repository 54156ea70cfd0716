/** Where the commands write: what a program reads to stdout, everything for a person to stderr (interface §1). */
import process from "node:process";
import { createInterface } from "node:readline/promises";
import type { Environment } from "../config/yaml_source.ts";
import { writeStderr } from "./logger.ts";

export interface Terminal {
  /** For programs: adds the newline. */
  out(text: string): void;
  /** For people: adds the newline. */
  say(text: string): void;
  /** For people, without a newline. */
  write(text: string): void;
  /** Asks a person and reads a line; null where there is no terminal to ask on. */
  ask(question: string, signal: AbortSignal): Promise<string | null>;
  readonly environment: Environment;
  readonly outIsTerminal: boolean;
  readonly sayIsTerminal: boolean;
  /** Colour on stderr. */
  readonly colour: boolean;
}

export function processTerminal(): Terminal {
  const sayIsTerminal = process.stderr.isTTY === true;
  return {
    out: (text) => {
      process.stdout.write(`${text}\n`);
    },
    say: (text) => writeStderr(`${text}\n`),
    write: writeStderr,
    ask: (question, signal) =>
      sayIsTerminal && process.stdin.isTTY === true ? readAnswer(question, signal) : Promise.resolve(null),
    environment: process.env,
    outIsTerminal: process.stdout.isTTY === true,
    sayIsTerminal,
    colour: sayIsTerminal && !process.env.NO_COLOR && process.env.TERM !== "dumb",
  };
}

async function readAnswer(question: string, signal: AbortSignal): Promise<string> {
  // Without raw mode: Ctrl-C stays a signal, which ends the command as anywhere else.
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: false });
  try {
    const ended = new Promise<string>((resolve) => lines.once("close", () => resolve("")));
    return await Promise.race([lines.question(question, { signal }), ended]);
  } finally {
    lines.close();
  }
}
