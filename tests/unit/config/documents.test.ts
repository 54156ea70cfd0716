import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { declaredKeys, environmentName } from "../../../src/config/declared.ts";
import { exampleYaml, jsonSchema } from "../../../src/config/documents.ts";
import { environmentNames } from "../../../src/config/layers.ts";
import { load, RUN } from "./support.ts";

const file = (name: string) => readFileSync(join(import.meta.dir, "../../../config", name), "utf8");

describe("documents made from the declarations", () => {
  test("the files in config/ are up to date (bun config/write.ts)", () => {
    expect(file("replicator.example.yaml")).toBe(exampleYaml());
    expect(JSON.parse(file("replicator.schema.json"))).toEqual(jsonSchema());
  });

  test("the example is a configuration that runs", () => {
    const { config } = load({ yaml: exampleYaml(), needs: RUN });
    expect(config.roles).toEqual(["publisher", "consumer", "sync"]);
    expect(config.kafka.brokers).toEqual(["localhost:9092"]);
  });

  test("every key of the example, uncommented, is one the schema knows", () => {
    const all = exampleYaml()
      .split("\n")
      .map((line) => line.replace(/^(\s*)# ([a-z_]+:( .*)?)$/, "$1$2"))
      .filter((line) => !line.trim().startsWith("#"))
      .join("\n");
    const keys = parse(all) as Record<string, Record<string, unknown>>;
    expect(Object.keys(keys)).toEqual(Object.keys((jsonSchema() as { properties: object }).properties));
    expect(keys.kafka?.topic).toMatchObject({ partitions: 1, retention: "7d" });
  });

  test("every key has a description, an environment name of its own, and no two names collide", () => {
    for (const { meta } of declaredKeys()) expect(meta.description).not.toBe("");
    const long = declaredKeys().map(({ path }) => environmentName(path));
    expect(new Set(long).size).toBe(long.length);
    expect(long).toContain("DATABASE_URL");
    expect(long).toContain("KAFKA_TOPIC_PARTITIONS");
    expect(environmentNames().map(({ name }) => name)).toMatchSnapshot();
  });

  test("the JSON Schema takes a value out of the environment for every type", () => {
    const { properties } = jsonSchema() as { properties: { api: { properties: { port: unknown } } } };
    expect(properties.api.properties.port).toMatchObject({
      anyOf: [
        { type: "integer", minimum: 0, maximum: 65_535 },
        { type: "string", pattern: "\\$\\{" },
      ],
    });
  });
});
