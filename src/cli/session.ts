/** What every command begins with: the configuration of its flags, a logger, signals; and what it ends with: an exit code. */
import type { Command } from "commander";
import type { Config } from "../config/config.ts";
import { declaredAt } from "../config/declared.ts";
import type { FlagValue } from "../config/layers.ts";
import { type Loaded, loadConfig } from "../config/load.ts";
import { rawAt } from "../config/raw.ts";
import { redactor } from "../config/redact.ts";
import type { Needs } from "../config/rules.ts";
import type { Admin } from "../core/admin.ts";
import { exitCode, ReplicatorError } from "../core/errors.ts";
import type { Logger } from "../core/logger.ts";
import type { Engine } from "./engine.ts";
import { createLogger, type LogLevel } from "./logger.ts";
import { type Signals, watchSignals } from "./signals.ts";
import type { Terminal } from "./terminal.ts";

/** Flags that set a key of the configuration; any other key: --set. */
export const CONFIG_FLAGS: readonly { readonly flags: string; readonly name: string; readonly path: string }[] = [
  { flags: "--broker <kind>", name: "broker", path: "broker" },
  { flags: "--role <roles>", name: "role", path: "role" },
  { flags: "--contour <name>", name: "contour", path: "service.contour" },
  { flags: "--database-url <url>", name: "databaseUrl", path: "database.url" },
  { flags: "--api-port <port>", name: "apiPort", path: "api.port" },
  { flags: "--log-level <level>", name: "logLevel", path: "log.level" },
  { flags: "--log-format <format>", name: "logFormat", path: "log.format" },
];

/** Adds the flags every command takes. */
export function addConfigFlags(program: Command): void {
  program.option(
    "-c, --config <file>",
    "Configuration file (REPLICATOR_CONFIG; default: replicator.yaml where it exists)",
  );
  for (const { flags, path } of CONFIG_FLAGS) {
    const declared = declaredAt(path.split("."));
    if (declared?.kind !== "value")
      throw new Error(`Flag ${flags} sets "${path}", which is no value of the configuration`);
    const { description, expected } = declared.meta;
    const chosen = expected !== "text" && declared.type !== "number" && !expected.startsWith("postgres:");
    program.option(flags, chosen ? `${description} (${expected})` : description);
  }
  const collect = (value: string, before: readonly string[] = []) => [...before, value];
  program.option("--set <key=value>", "Any key of the configuration, again and again", collect);
}

export interface Session {
  readonly loaded: Loaded;
  readonly config: Config;
  readonly logger: Logger;
  readonly signals: Signals;
  readonly signal: AbortSignal;
  readonly terminal: Terminal;
  readonly engine: Engine;
  redact(text: string): string;
}

export interface SessionOptions {
  readonly command: Command;
  readonly engine: Engine;
  readonly terminal: Terminal;
  readonly needs: Needs;
  /** Shown only from this level on, unless the log level was set: commands that a person waits for are quiet. */
  readonly quiet?: boolean;
}

/** Loads, runs `work`, ends the session. The exit code is what work returns. @throws ReplicatorError */
export async function withSession(
  options: SessionOptions,
  work: (session: Session) => Promise<number>,
): Promise<number> {
  const { command, engine, terminal, needs } = options;
  const opts: Record<string, unknown> = command.optsWithGlobals();
  const file = typeof opts.config === "string" ? opts.config : undefined;
  const loaded = loadConfig({ file, environment: terminal.environment, flags: configFlags(opts), needs });
  const { config } = loaded;
  const redact = redactor(loaded.secrets);
  const levelSet = rawAt(loaded.raw, ["log", "level"]) !== undefined;
  const level: LogLevel = options.quiet && !levelSet ? "warn" : config.log.level;
  const logger = createLogger({
    level,
    format: config.log.format ?? (terminal.sayIsTerminal ? "pretty" : "json"),
    facts: { service: config.service.name, ...(config.service.contour && { contour: config.service.contour }) },
    colour: terminal.colour,
    redact,
    write: (line) => terminal.say(line.trimEnd()),
  });
  const signals = watchSignals({ timeoutMs: config.service.shutdown_timeout, say: terminal.say });
  try {
    return await work({ loaded, config, logger, signals, signal: signals.signal, terminal, engine, redact });
  } catch (error) {
    // A command that was asked to stop half way has not done what it was for.
    if (signals.signal.aborted && signals.forcedCode !== null && !(error instanceof ReplicatorError))
      return signals.forcedCode;
    throw redacted(error, redact);
  } finally {
    signals.dispose();
  }
}

/** As withSession, with the database at hand; closed afterwards. */
export function withAdmin(
  options: SessionOptions,
  work: (session: Session, admin: Admin) => Promise<number>,
): Promise<number> {
  return withSession({ ...options, quiet: true }, async (session) => {
    const admin = session.engine.openAdmin(session.config, session.logger);
    try {
      return await work(session, admin);
    } finally {
      await admin.close();
    }
  });
}

function configFlags(opts: Record<string, unknown>): FlagValue[] {
  const own = CONFIG_FLAGS.flatMap(({ flags, name, path }) => {
    const value = opts[name];
    return typeof value === "string" ? [{ flag: flags.split(" ")[0] ?? flags, path, value }] : [];
  });
  const set = Array.isArray(opts.set) ? opts.set.map(String) : [];
  return [
    ...own,
    ...set.map((text) => {
      const cut = text.indexOf("=");
      if (cut < 1)
        throw inputError(
          "cli.bad_set",
          `Read --set "${text}", expected key=value`,
          "For example: --set publisher.batch_size=100",
        );
      return { flag: "--set", path: text.slice(0, cut), value: text.slice(cut + 1) };
    }),
  ];
}

export function inputError(code: string, message: string, remedy?: string): ReplicatorError {
  return new ReplicatorError({ code, message, retry: "never", fault: "input", remedy });
}

/** The same error without the secrets a library may have quoted. */
function redacted(error: unknown, redact: (text: string) => string): unknown {
  if (!(error instanceof Error)) return error;
  if (redact(error.message) === error.message) return error;
  if (!(error instanceof ReplicatorError)) return new Error(redact(error.message));
  const { code, retry, fault, remedy, facts } = error;
  return new ReplicatorError({ code, message: redact(error.message), retry, fault, remedy, facts });
}

/** What a person reads when a command fails; the exit code beside it. */
export function failure(error: unknown): { readonly text: string; readonly code: number } {
  const code = exitCode(error);
  if (error instanceof ReplicatorError) {
    return { text: error.remedy ? `${error.message}\n  ${error.remedy}` : error.message, code };
  }
  const message = error instanceof Error ? error.message : String(error);
  return {
    text: `Internal error: ${message}\n  This is a mistake of the replicator: please report it, with LOG_LEVEL=debug`,
    code,
  };
}
