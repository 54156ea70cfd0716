import { describe, expect, test } from "bun:test";
import type { Finding } from "../../../src/core/admin.ts";
import type { Broker } from "../../../src/core/broker.ts";
import type { Channel } from "../../../src/core/channel.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { cli, fakeAdmin } from "./support.ts";

const ENV = {
  SERVICE_CONTOUR: "a",
  DATABASE_URL: "postgres://db/app",
  BROKER: "kafka",
  KAFKA_BROKERS: "k:1",
  CONSUMER_FROM: "b",
  KAFKA_TOPIC_PARTITIONS: "3",
};
const warning: Finding = { severity: "warning", code: "x.warn", message: "A thing", remedy: "mend it" };
const blocking: Finding = { severity: "blocking", code: "x.block", message: "Another", remedy: "mend that" };

function broker(parts: Pick<Broker, "ping" | "check">): Broker {
  const unused = () => {
    throw new Error("not expected");
  };
  return {
    kind: "kafka",
    ensureChannel: unused,
    publisher: unused,
    feeds: unused,
    claims: unused,
    lag: unused,
    close: async () => {},
    ...parts,
  };
}

describe("check", () => {
  test("ends with 0 when nothing blocks, asks the broker about the channels of all contours", async () => {
    const asked: Channel[] = [];
    const openBroker = () =>
      broker({
        ping: async () => {},
        check: async (channels) => {
          asked.push(...channels);
          return [];
        },
      });
    const openAdmin = () => fakeAdmin({ check: async () => [warning] });
    const { code, said, out } = await cli(["check", "--set", "critical_tables=users"], { openAdmin, openBroker }, ENV);
    expect([code, out]).toEqual([0, ""]);
    expect(said).toBe(
      "warning  A thing  [x.warn]\n    mend it\nNothing blocks replication: checked postgres://test and kafka",
    );
    expect(asked.map(({ contour, name, partitions }) => [contour, name, partitions])).toEqual([
      ["a", "changes", 1],
      ["b", "changes", 1],
    ]);
  });

  test("ends with 4 on a blocking finding; --json is one array on stdout", async () => {
    const openBroker = () => broker({ ping: async () => {}, check: async () => [blocking] });
    const openAdmin = () => fakeAdmin({ check: async () => [warning] });
    const { code, out } = await cli(["check", "--json"], { openAdmin, openBroker }, ENV);
    expect(code).toBe(4);
    expect(JSON.parse(out)).toEqual([warning, blocking]);
  });

  test("a broker that refuses us is a finding beside those of the database", async () => {
    const refused = new ReplicatorError({
      code: "broker.auth_failed",
      message: "Cannot log in",
      retry: "never",
      fault: "environment",
      remedy: "Check",
    });
    const openBroker = () => broker({ ping: () => Promise.reject(refused), check: async () => [] });
    const openAdmin = () => fakeAdmin({ check: async () => [] });
    const { code, out } = await cli(["check", "--json"], { openAdmin, openBroker }, ENV);
    expect(code).toBe(4);
    expect(JSON.parse(out)).toMatchObject([{ code: "broker.auth_failed", severity: "blocking", remedy: "Check" }]);
  });
});
