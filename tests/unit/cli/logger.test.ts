import { describe, expect, test } from "bun:test";
import { createLogger, type LoggerOptions } from "../../../src/cli/logger.ts";
import { prettyLine } from "../../../src/cli/pretty.ts";
import { redactor } from "../../../src/config/redact.ts";

function lines(options: Partial<LoggerOptions>) {
  const written: string[] = [];
  const logger = createLogger({
    level: "info",
    format: "json",
    redact: (text) => text,
    write: (line) => written.push(line),
    ...options,
  });
  return { logger, written };
}

describe("logger", () => {
  test("json: one object a line with level, time, message and the facts of all parents", () => {
    const { logger, written } = lines({ facts: { contour: "a" } });
    logger.child({ role: "consumer" }).warn({ lag: 3 }, "slow");
    expect(JSON.parse(written[0] ?? "")).toMatchObject({
      level: "warn",
      contour: "a",
      role: "consumer",
      lag: 3,
      message: "slow",
    });
    expect(written[0]).toMatch(/"time":"\d{4}-\d\d-\d\dT.*Z"/);
  });

  test("below its level nothing is written", () => {
    const { logger, written } = lines({ level: "error" });
    logger.info({}, "x");
    logger.warn({}, "x");
    expect(written).toEqual([]);
  });

  test("secrets leave no trace, in messages, facts and errors alike", () => {
    const { logger, written } = lines({ redact: redactor(["hunter2"]) });
    logger.error({ url: "postgres://u:pw@h/d", error: new Error("login hunter2 failed") }, "tried hunter2");
    expect(written.join("")).not.toMatch(/hunter2|:pw@/);
  });

  test("pretty: time, level, message, facts", () => {
    const { logger, written } = lines({ format: "pretty" });
    logger.info({ url: "http://x", note: "two words" }, "listening");
    expect(written[0]).toMatch(/^\d\d:\d\d:\d\d\.\d{3} info {2}listening {2}url=http:\/\/x note="two words"\n$/);
    expect(prettyLine("no json\n", false)).toBe("no json\n");
    expect(prettyLine('{"level":"warn","time":"2026-01-01T10:00:00.000Z","message":"m"}', true)).toBe(
      "10:00:00.000 \u001b[33mwarn \u001b[0m m\n",
    );
  });
});
