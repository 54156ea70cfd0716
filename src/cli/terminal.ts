/** Where the commands write: what a program reads to stdout, everything for a person to stderr (interface §1). */
import process from "node:process";
import type { Environment } from "../config/yaml_source.ts";
import { writeStderr } from "./logger.ts";

export interface Terminal {
  /** For programs: adds the newline. */
  out(text: string): void;
  /** For people: adds the newline. */
  say(text: string): void;
  /** For people, without a newline. */
  write(text: string): void;
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
    environment: process.env,
    outIsTerminal: process.stdout.isTTY === true,
    sayIsTerminal,
    colour: sayIsTerminal && !process.env.NO_COLOR && process.env.TERM !== "dumb",
  };
}
