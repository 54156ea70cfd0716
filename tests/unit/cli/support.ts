/** Commands run in this process over an engine of the test's own; the program itself runs as a child. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { Context } from "../../../src/cli/context.ts";
import type { Engine } from "../../../src/cli/engine.ts";
import { runCli } from "../../../src/cli/program.ts";
import type { Admin } from "../../../src/core/admin.ts";

export const ROOT = join(import.meta.dir, "../../..");

export interface Output {
  readonly code: number;
  readonly out: string;
  readonly said: string;
}

const refuse = (what: string) => () => Promise.reject(new Error(`${what} was not expected`));

/** An Admin that refuses whatever a test does not give. */
export function fakeAdmin(parts: Partial<Admin>): Admin {
  return {
    label: "postgres://test",
    ping: refuse("ping"),
    setup: refuse("setup"),
    addTable: refuse("addTable"),
    removeTable: refuse("removeTable"),
    listTables: refuse("listTables"),
    tableShape: refuse("tableShape"),
    identity: refuse("identity"),
    check: refuse("check"),
    status: refuse("status"),
    parked: refuse("parked"),
    parkedDetail: refuse("parkedDetail"),
    retryParked: refuse("retryParked"),
    parkedOutcomes: refuse("parkedOutcomes"),
    discardParked: refuse("discardParked"),
    conflicts: refuse("conflicts"),
    conflictDetail: refuse("conflictDetail"),
    snapshot: () => {
      throw new Error("snapshot was not expected");
    },
    prepareGenerator: refuse("prepareGenerator"),
    generate: refuse("generate"),
    close: async () => {},
    ...parts,
  };
}

export function fakeEngine(parts: Partial<Engine>): Engine {
  return {
    openAdmin: () => {
      throw new Error("openAdmin was not expected");
    },
    openBroker: () => {
      throw new Error("openBroker was not expected");
    },
    openVerifySide: () => {
      throw new Error("openVerifySide was not expected");
    },
    run: refuse("run"),
    demo: refuse("demo"),
    ...parts,
  };
}

/** Runs one command line in this process. `answer`: what the person says who is asked; null: there is nobody. */
export async function cli(
  args: readonly string[],
  engine: Partial<Engine> = {},
  environment: Record<string, string> = {},
  answer: string | null = null,
): Promise<Output> {
  const out: string[] = [];
  const said: string[] = [];
  const context: Context = {
    engine: fakeEngine(engine),
    terminal: {
      out: (text) => out.push(text),
      say: (text) => said.push(text),
      write: (text) => said.push(text),
      ask: async (question) => {
        said.push(question);
        return answer;
      },
      environment,
      outIsTerminal: false,
      sayIsTerminal: false,
      colour: false,
    },
  };
  const code = await runCli(args, context);
  return { code, out: out.join("\n"), said: said.join("\n") };
}

/** Runs the program as an operator does, in an empty environment and directory. */
export function program(args: readonly string[], environment: Record<string, string> = {}): Promise<Output> {
  const child = spawn(process.execPath, [join(ROOT, "src/main.ts"), ...args], {
    cwd: "/",
    env: { PATH: process.env.PATH ?? "", NO_COLOR: "1", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let said = "";
  child.stdout.on("data", (data) => {
    out += String(data);
  });
  child.stderr.on("data", (data) => {
    said += String(data);
  });
  return new Promise((resolve) => child.on("close", (code) => resolve({ code: code ?? -1, out, said })));
}
