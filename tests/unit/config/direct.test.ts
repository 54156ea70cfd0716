/** Direct mode's keys: what stands beside a target, what follows from it. */
import { describe, expect, test } from "bun:test";
import { showYaml } from "../../../src/config/show.ts";
import { targetConfig } from "../../../src/config/target.ts";
import { load, problems, RUN } from "./support.ts";

const DIRECT = {
  SERVICE_CONTOUR: "primary",
  DATABASE_URL: "postgres://replicator@db/app",
  TARGET_URL: "postgres://writer:hunter2@replica/app",
};

describe("direct mode's configuration", () => {
  test("a target is all it takes: both roles, this contour as the source, no broker", () => {
    const { config } = load({ environment: DIRECT, needs: RUN });
    expect(config).toMatchObject({
      roles: ["publisher", "consumer"],
      broker: "direct",
      consumer: { from: ["primary"] },
    });
  });

  test("the target seen as a contour has its own address, schema and name, and the source's column names", () => {
    const environment = {
      ...DIRECT,
      DATABASE_SCHEMA: "here",
      DATABASE_COLUMNS_VERSION: "row_version",
      DATABASE_SSLMODE: "disable",
    };
    const { config } = load({ environment, needs: RUN });
    const target = targetConfig(config);
    expect(target?.service.contour).toBe("primary-target");
    expect(target?.database).toMatchObject({
      url: DIRECT.TARGET_URL,
      schema: "replicator",
      columns: { version: "row_version" },
    });
    expect(target?.database.sslmode).toBeUndefined();
  });

  test("the target's name is cut to 32 characters, and can be chosen", () => {
    const named = (environment: Record<string, string>) =>
      targetConfig(load({ environment: { ...DIRECT, ...environment }, needs: RUN }).config)?.service.contour;
    expect(named({ SERVICE_CONTOUR: "a".repeat(32) })).toBe(`${"a".repeat(25)}-target`);
    expect(named({ TARGET_CONTOUR: "copy" })).toBe("copy");
  });

  test("without a target there is no direct mode, and nothing of it is shown", () => {
    const loaded = load({ environment: { ...DIRECT, TARGET_URL: "", BROKER: "memory" }, needs: RUN });
    expect(targetConfig(loaded.config)).toBeNull();
    expect(showYaml(loaded)).not.toContain("target");
  });

  test("config show names the target's contour, hides its password, and can be read back", () => {
    const loaded = load({ environment: DIRECT, needs: RUN });
    const yaml = showYaml(loaded);
    expect(yaml).toContain("contour: primary-target");
    expect(yaml).not.toContain("hunter2");
    expect(loaded.secrets).toContain("hunter2");
    expect(load({ yaml, needs: RUN }).config.broker).toBe("direct");
  });

  for (const [what, environment, path, words] of [
    ["kafka", { BROKER: "kafka", KAFKA_BROKERS: "k:9092" }, "broker", "leave out broker (direct mode) or target"],
    ["nats", { BROKER: "nats", NATS_SERVERS: "n:4222" }, "broker", "leave out broker (direct mode) or target"],
    ["one role", { ROLE: "publisher" }, "role", "expected all"],
    ["the other role", { ROLE: "consumer" }, "role", "expected all"],
    ["a source named", { CONSUMER_FROM: "other" }, "consumer.from", "leave it out"],
    ["one name for both", { TARGET_CONTOUR: "primary" }, "target.contour", "expected a name of its own"],
    ["a certificate without its key", { TARGET_SSLCERT: "/c.pem" }, "target.sslkey", "is missing"],
    ["no address", { TARGET_URL: "", TARGET_SCHEMA: "replicator" }, "target.url", "is missing"],
  ] as const) {
    test(`${what} beside a target is refused with what to do`, () => {
      const found = problems({ environment: { ...DIRECT, ...environment }, needs: RUN });
      expect(found).toEqual([expect.stringContaining(`${path}: `)]);
      expect(found[0]).toContain(words);
    });
  }

  test("memory and both roles by name change nothing", () => {
    const environment = { ...DIRECT, BROKER: "memory", ROLE: "consumer,publisher" };
    expect(load({ environment, needs: RUN }).config.broker).toBe("direct");
  });
});
