import { describe, expect, test } from "bun:test";
import { expand } from "../../../src/config/yaml_source.ts";
import { load } from "./support.ts";

describe("expand", () => {
  const environment = { A: "one", EMPTY: "" };
  test("a variable, a default, both inside a text", () => {
    expect(expand("${A}", environment)).toEqual({ text: "one", missing: [] });
    expect(expand("${B:-two}", environment)).toEqual({ text: "two", missing: [] });
    expect(expand("x${A}y${B:-}z", environment)).toEqual({ text: "xoneyz", missing: [] });
  });
  test("an empty variable takes the default, as in a shell", () => {
    expect(expand("${EMPTY:-d}", environment).text).toBe("d");
    expect(expand("${EMPTY}", environment)).toEqual({ text: "", missing: [] });
  });
  test("an unset variable without default is missing", () => {
    expect(expand("${B}${C}", environment).missing).toEqual(["B", "C"]);
  });
  test("$${ stands for itself, and a lone $ is a character", () => {
    expect(expand("$${A} costs $5", environment)).toEqual({ text: "${A} costs $5", missing: [] });
  });
  test("what a variable holds is not expanded again, nor read as YAML", () => {
    const { config } = load({
      yaml: "database: { password: '${P}' }\nkafka: { brokers: '${K}' }",
      environment: { P: "${X}: [", K: "a:1,b:2" },
    });
    expect(config.database.password).toBe("${X}: [");
    expect(config.kafka.brokers).toEqual(["a:1", "b:2"]);
  });
  test("a value that expands to nothing counts as not set", () => {
    expect(load({ yaml: "api: { token: '${TOKEN:-}', port: '${PORT:-9}' }" }).config.api).toMatchObject({ port: 9 });
  });
  test("anchors and aliases are followed", () => {
    const { config } = load({ yaml: "alerts: { lag_warning: &t 3s, lag_critical: *t }" });
    expect(config.alerts.lag_critical).toBe(3_000);
  });
});
