/** The program: puts the engine together and hands the command line to src/cli. */
import process from "node:process";
import { openVerifySide } from "../adapters/postgres/admin/verify.ts";
import type { Engine } from "./cli/engine.ts";
import { writeStderr } from "./cli/logger.ts";
import { runCli } from "./cli/program.ts";
import { processTerminal } from "./cli/terminal.ts";
import { redactUrls } from "./config/redact.ts";
import { verifyAddress } from "./config/verify_address.ts";
import { systemClock } from "./core/clock.ts";
import { VERSION } from "./core/version.ts";
import { openAdministration, openBroker } from "./registry.ts";
import { run } from "./run.ts";

const engine: Engine = {
  openAdmin: (config, logger) => openAdministration(config, logger, 12),
  openVerifySide: (config, against, logger) => openVerifySide({ ...verifyAddress(config, against), logger }),
  openBroker: (config, logger) => openBroker(config, { logger, clock: systemClock }),
  run: (config, context) => run({ ...context, config, version: VERSION }),
  demo: async (context) => {
    const { runDemo } = await import("./cli/demo/demo.ts");
    const proof = await runDemo({ ...context, version: VERSION });
    return proof === null ? null : proof.equal;
  },
};

/** What escapes every loop: never a stack trace, never a secret. */
function lastResort(error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  writeStderr(
    `replicator: Internal error: ${redactUrls(message)}\n  This is a mistake of the replicator: please report it\n`,
  );
  process.exit(1);
}

async function main(): Promise<void> {
  process.on("uncaughtException", lastResort);
  process.on("unhandledRejection", lastResort);
  // A reader that has seen enough (`| head`) is no failure.
  process.stdout.on("error", () => process.exit(0));
  const code = await runCli(process.argv.slice(2), { engine, terminal: processTerminal() });
  // After stdout is written: a client library's idle timer must not keep a finished command alive.
  process.stdout.write("", () => process.exit(code));
}

main().catch(lastResort);
