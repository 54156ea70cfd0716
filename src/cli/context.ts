/** What every command is given, and how its exit code comes back through commander. */
import type { Command } from "commander";
import type { Engine } from "./engine.ts";
import type { Terminal } from "./terminal.ts";

export interface Context {
  readonly engine: Engine;
  readonly terminal: Terminal;
}

const results = new WeakMap<Command, number>();

/** Gives a command its work; the exit code it returns is the program's. */
export function define(command: Command, work: () => Promise<number>): void {
  command.action(async () => {
    results.set(rootOf(command), await work());
  });
}

/** The exit code of the command that ran; 0 when none did. */
export function resultOf(program: Command): number {
  return results.get(program) ?? 0;
}

function rootOf(command: Command): Command {
  return command.parent ? rootOf(command.parent) : command;
}
