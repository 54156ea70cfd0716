/** A logger that keeps what it is told. */
import type { Logger } from "../../src/core/logger.ts";

export interface LogLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly facts: Readonly<Record<string, unknown>>;
  readonly message: string;
}

export function keepingLogger(lines: LogLine[]): Logger {
  const at = (level: LogLine["level"]) => (facts: object, message: string) => {
    lines.push({ level, facts: { ...facts }, message });
  };
  const logger: Logger = {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: () => logger,
  };
  return logger;
}
