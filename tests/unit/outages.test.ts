import { describe, expect, test } from "bun:test";
import type { Logger } from "../../src/core/logger.ts";
import { Outages } from "../../src/outages.ts";

function listening(): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  const keep = (level: string) => (_facts: object, message: string) => void lines.push(`${level} ${message}`);
  const logger: Logger = {
    debug: keep("debug"),
    info: keep("info"),
    warn: keep("warn"),
    error: keep("error"),
    child: () => logger,
  };
  return { logger, lines };
}

describe("Outages", () => {
  test("the first warning of an outage is written, those after it go to debug until the server answers", () => {
    const { logger, lines } = listening();
    const outages = new Outages();
    const once = outages.once(logger);
    const code = "broker.unreachable";
    once.warn({ code }, "one");
    once.child({ role: "publisher" }).warn({ code }, "two");
    expect(outages.tell("broker")).toBe(false);
    expect(outages.over("broker")).toBe(true);
    expect(outages.over("broker")).toBe(false);
    expect(outages.tell("broker")).toBe(true);
    once.warn({ code }, "three");
    expect(lines).toEqual(["warn one", "debug two", "debug three"]);
  });

  test("one server's outage hides nothing of the other's, and nothing that says more than no answer", () => {
    const { logger, lines } = listening();
    const once = new Outages().once(logger);
    once.warn({ code: "broker.unreachable" }, "broker");
    once.warn({ code: "database.unreachable" }, "database");
    once.warn({ code: "database.timeout" }, "the same database");
    once.warn({ code: "broker.storage_full" }, "full");
    once.warn({}, "no code");
    once.error({ code: "broker.unreachable" }, "error");
    once.info({ code: "broker.unreachable" }, "info");
    expect(lines).toEqual([
      "warn broker",
      "warn database",
      "debug the same database",
      "warn full",
      "warn no code",
      "error error",
      "info info",
    ]);
  });

  test("of two databases each outage is told of once, by its own name", () => {
    const { logger, lines } = listening();
    const outages = new Outages();
    const code = "database.unreachable";
    outages.once(logger).warn({ code }, "source");
    outages.once(logger, "target").child({ role: "consumer" }).warn({ code }, "target");
    outages.once(logger, "target").warn({ code }, "target again");
    expect(outages.over("database")).toBe(true);
    expect(outages.tell("target")).toBe(false);
    expect(lines).toEqual(["warn source", "warn target", "debug target again"]);
  });
});
