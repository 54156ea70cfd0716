/** pino to stderr, json or pretty, with secrets taken out of every line. */
import { writeSync } from "node:fs";
import { pino } from "pino";
import type { Logger } from "../core/logger.ts";
import { prettyLine } from "./pretty.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";

export interface LoggerOptions {
  readonly level: LogLevel;
  readonly format: "json" | "pretty";
  /** Facts of every line. */
  readonly facts?: object;
  readonly colour?: boolean;
  redact(text: string): string;
  /** Default: stderr. */
  readonly write?: (line: string) => void;
}

export function createLogger(options: LoggerOptions): Logger {
  const { level, format, redact } = options;
  const write = options.write ?? writeStderr;
  const stream = {
    // The whole line is searched, not chosen fields: a library's message may quote what it was given.
    write: (line: string) => write(redact(format === "pretty" ? prettyLine(line, options.colour ?? false) : line)),
  };
  const logger = pino(
    {
      level,
      base: options.facts ?? {},
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      messageKey: "message",
    },
    stream,
  );
  return wrap(logger);
}

/** Only what the port promises. */
function wrap(logger: pino.Logger): Logger {
  return {
    debug: (facts, message) => logger.debug(facts, message),
    info: (facts, message) => logger.info(facts, message),
    warn: (facts, message) => logger.warn(facts, message),
    error: (facts, message) => logger.error(facts, message),
    child: (facts) => wrap(logger.child(facts)),
  };
}

/** Waits for a full pipe add up to two seconds at most; then the rest of the line is given up, not the program. */
const PATIENCE = 1_000;
const PAUSE_MS = 2;

/** Synchronous, so that nothing is lost when the process ends; a reader that has gone must not end the program. */
export function writeStderr(text: string): void {
  let rest = Buffer.from(text);
  for (let tries = 0; rest.length > 0 && tries < PATIENCE; ) {
    try {
      rest = rest.subarray(writeSync(2, rest));
    } catch (error) {
      // A full pipe whose reader is slow: try on. Anything else: nobody is left to be told.
      if (!(error instanceof Error) || Reflect.get(error, "code") !== "EAGAIN") return;
      tries++;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
    }
  }
}
