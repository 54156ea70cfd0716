import { describe, expect, test } from "bun:test";
import { showObject, showYaml } from "../../../src/config/show.ts";
import { load } from "./support.ts";

const YAML = `
service: { contour: active }
database: { url: "postgres://u:secret1@h/db", password: secret2 }
broker: nats
nats: { servers: ["nats://u:secret3@h:4222"], tls: true }
kafka: { sasl: { mechanism: plain, username: u, password: secret4 } }
critical_tables: [{ name: users, topic: users_changes }]
`;

describe("config show", () => {
  const environment = { API_TOKEN: "secret5", PUBLISHER_BATCH_SIZE: "9" };
  test("shows what is in effect and where it comes from, and no secret", () => {
    const shown = showYaml(load({ yaml: YAML, environment }));
    expect(shown).toMatchSnapshot();
    expect(shown).not.toContain("secret");
  });
  test("as an object it can be read by a program, with the same secrets hidden", () => {
    const shown = JSON.stringify(showObject(load({ yaml: YAML, environment })));
    expect(JSON.parse(shown)).toMatchObject({
      api: { token: "***" },
      publisher: { batch_size: 9, poll_interval: "100ms" },
    });
    expect(shown).not.toContain("secret");
  });
  test("what it prints is read back as the same configuration", () => {
    const yaml = YAML.replace(/password: secret\d/g, 'password: "***"').replace(/secret\d/g, "***");
    const first = load({ yaml });
    expect(load({ yaml: showYaml(first) }).config).toEqual(first.config);
  });
});
