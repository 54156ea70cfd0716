import { describe, expect, test } from "bun:test";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { BASE, load, RUN } from "./support.ts";

describe("loadConfig", () => {
  test("a flag wins over the environment, that over the file, that over the default", () => {
    const yaml = "publisher: { batch_size: 2, poll_interval: 2s, frame_size: 2kB }";
    const environment = { ...BASE, PUBLISHER_BATCH_SIZE: "3", PUBLISHER_POLL_INTERVAL: "3s" };
    const flags = [{ flag: "--set", path: "publisher.batch_size", value: "4" }];
    const { config } = load({ yaml, environment, flags });
    expect(config.publisher).toEqual({ batch_size: 4, poll_interval: 3_000, frame_size: 2_000 });
    expect(load({ environment: BASE }).config.publisher).toEqual({
      batch_size: 500,
      poll_interval: 100,
      frame_size: 256_000,
    });
  });

  test("the environment names of the source designs hold, a bare number is seconds", () => {
    const environment = { ...BASE, POLL_INTERVAL: "0.5", BATCH_SIZE: "25", GENERATION_INTERVAL: "5" };
    const { config } = load({ environment });
    expect(config.publisher.poll_interval).toBe(500);
    expect(config.generator.interval).toBe(5_000);
    expect([config.publisher.batch_size, config.consumer.batch_size]).toEqual([25, 25]);
  });

  test("a long environment name wins over a short one", () => {
    const { config } = load({ environment: { ...BASE, BATCH_SIZE: "25", CONSUMER_BATCH_SIZE: "7" } });
    expect([config.publisher.batch_size, config.consumer.batch_size]).toEqual([25, 7]);
  });

  test("an empty environment variable counts as not set", () => {
    expect(load({ environment: { ...BASE, API_TOKEN: "", LOG_LEVEL: "" } }).config.log.level).toBe("info");
  });

  test("lists are comma-separated outside a file, tables too", () => {
    const environment = {
      ...BASE,
      KAFKA_BROKERS: "a:1, b:2",
      CONSUMER_FROM: "passive,third",
      CRITICAL_TABLES: "users,sales.orders",
    };
    const { config } = load({ environment });
    expect(config.kafka.brokers).toEqual(["a:1", "b:2"]);
    expect(config.consumer.from).toEqual(["passive", "third"]);
    expect(config.critical_tables.map(({ name, topic }) => [name, topic])).toEqual([
      ["users", undefined],
      ["sales.orders", undefined],
    ]);
  });

  test("the configuration of the source designs works, its polled tables are refused by name", () => {
    const yaml = `
service:
  name: "replicator-service"
  contour: "active"
database: { url: postgres://db/app }
critical_tables:
  - name: "users"
    topic: "users_changes"
    primary_key: ["id"]
    replication_mode: "trigger"  # real-time
`;
    const { config } = load({ yaml });
    expect(config.critical_tables).toEqual([
      {
        name: "users",
        topic: "users_changes",
        primary_key: ["id"],
        replication_mode: "trigger",
        conflict: "version",
        on_error: "park",
        on_unique_conflict: "remove_loser",
        capture: "auto",
        exclude_columns: [],
      },
    ]);
    const polled = `${yaml}non_critical_tables:
  - name: products
    topic: products_changes_periodic
    primary_key: [id]
    replication_mode: periodic
    sync_interval: 10m
  - name: sales.categories
`;
    const tables = load({ yaml: polled }).config.non_critical_tables;
    expect(tables.map(({ name, topic, sync_interval, conflict }) => [name, topic, sync_interval, conflict])).toEqual([
      ["products", "products_changes_periodic", 600_000, "latest"],
      ["sales.categories", "sales.categories_changes_periodic", 300_000, "latest"],
    ]);
  });

  test("roles: all means every role that has work, and names none where the command runs none", () => {
    expect(load({ environment: BASE, needs: RUN }).config.roles).toEqual(["publisher"]);
    const environment = { ...BASE, CONSUMER_FROM: "passive" };
    expect(load({ environment, needs: RUN }).config.roles).toEqual(["publisher", "consumer"]);
    expect(load({ environment: { ...environment, ROLE: "consumer,consumer" }, needs: RUN }).config.roles).toEqual([
      "consumer",
    ]);
    expect(load({ environment }).config.roles).toEqual([]);
    const yaml = "non_critical_tables: [{ name: products }]";
    expect(load({ yaml, environment: BASE, needs: RUN }).config.roles).toEqual(["publisher", "sync"]);
  });

  test("the consumer group is named after the contour unless it is set", () => {
    expect(load({ environment: BASE }).config.consumer.group).toBe("replicator-consumer-active");
    expect(load({ environment: { ...BASE, CONSUMER_GROUP: "g" } }).config.consumer.group).toBe("g");
  });

  test("a text keeps its digits: 0123 stays a password of four", () => {
    expect(load({ yaml: "database: { password: 0123 }" }).config.database.password).toBe("0123");
  });

  test("compat_schema off is no schema", () => {
    expect(load({ yaml: "database: { compat_schema: off }" }).config.database.compat_schema).toBeNull();
    expect(load({ environment: BASE }).config.database.compat_schema).toBe("public");
  });

  test("ssl true is TLS with the system's authorities, files are read to text", () => {
    expect(load({ yaml: "kafka: { ssl: true }" }).config.kafka.ssl).toEqual({});
    expect(load({ yaml: "kafka: { ssl: false }" }).config.kafka.ssl).toBeUndefined();
    const pem = "-----BEGIN CERTIFICATE-----\nx\n";
    const { config } = load({ yaml: "kafka: { ssl: { ca: /ca.pem } }", files: { "/ca.pem": pem } });
    expect(config.kafka.ssl).toEqual({ ca: pem });
    const environment = { KAFKA_SSL_CA: "/ca.pem" };
    expect(load({ yaml: "kafka: { ssl: true }", environment, files: { "/ca.pem": pem } }).config.kafka.ssl).toEqual({
      ca: pem,
    });
  });

  test("no file is needed; one that is named must be there", () => {
    expect(load({ environment: BASE, needs: RUN }).file).toBeNull();
    expect(() => load({ environment: { REPLICATOR_CONFIG: "/nowhere.yaml" } })).toThrow(
      'Cannot read the configuration file "/nowhere.yaml": there is no such file',
    );
  });

  test("secrets are known, passwords inside URLs too", () => {
    const yaml =
      "database: { url: 'postgres://u:p%40ss@h/d', password: topsecret }\nnats: { servers: ['nats://a:other@h:1'] }\napi: { token: tok }";
    expect(load({ yaml }).secrets.toSorted()).toEqual(
      ["other", "other", "p%40ss", "p@ss", "tok", "topsecret"].toSorted(),
    );
  });

  test("what is refused is the user's input", () => {
    try {
      load({ yaml: "a: 1" });
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(ReplicatorError);
      expect(error).toMatchObject({ code: "config.invalid", fault: "input", retry: "never" });
    }
  });
});
