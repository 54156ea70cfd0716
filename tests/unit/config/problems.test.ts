import { describe, expect, test } from "bun:test";
import { BASE, problems, RUN } from "./support.ts";

const one = (yaml: string, environment: Record<string, string> = {}) => problems({ yaml, environment });

describe("problems of a configuration", () => {
  test("all are reported at once, in the order of the file, with line, path, found and expected", () => {
    const yaml = `
service:
  contuor: x
  contour: Bad!
database:
  url: mysql://h/db
  pasword: 1
broker: \${BROKR}
kafka:
  brokers: kafka-1:9092,x
  ssl: yes
  sasl: { mechanism: md5, username: a, password: 0123 }
  topic: { partitions: three, retention: 7 }
critical_tables:
  - name: users
    on_unique_conflict: drop
  - nam: x
  - name: users
    topic: changes
api: { host: 0.0.0.0 }
role: sync
publisher: { frame_size: 2MB, poll_interval: 5 }
`;
    const flags = [{ flag: "--set", path: "kafka.broker", value: "x" }];
    expect(problems({ yaml, flags, needs: RUN })).toMatchSnapshot();
  });

  test("an unknown key names the nearest known one, or all there are", () => {
    expect(one("kafka: { topic: { partitons: 3 } }")).toEqual([
      "r.yaml:1: kafka.topic.partitons: is an unknown key; did you mean kafka.topic.partitions?",
    ]);
    expect(one("log: { zzzzzz: 1 }")).toEqual(["r.yaml:1: log.zzzzzz: is an unknown key; known here: level, format"]);
    expect(one("critical_tables: [{ name: a, topik: b }]")).toEqual([
      "r.yaml:1: critical_tables[0].topik: is an unknown key; did you mean critical_tables[0].topic?",
    ]);
  });

  test("what comes from the environment or a flag is named so", () => {
    expect(problems({ environment: { API_PORT: "eighty" } })).toEqual([
      'environment API_PORT: api.port: found "eighty", expected a whole number from 0 to 65535',
    ]);
    expect(problems({ flags: [{ flag: "--broker", path: "broker", value: "kafak" }] })).toEqual([
      'flag --broker: broker: found "kafak", expected kafka, nats or memory',
    ]);
  });

  test("an unset variable without default is a problem, reported once", () => {
    expect(one("kafka: { sasl: { mechanism: plain, username: u, password: '${NOT_SET}' } }")).toEqual([
      "r.yaml:1: kafka.sasl.password: the environment variable NOT_SET is not set, expected it to be or a default: ${NOT_SET:-default}",
    ]);
  });

  test("a secret is never quoted", () => {
    expect(one("nats: { nkey: not-a-seed-but-secret }")).toEqual([
      "r.yaml:1: nats.nkey: found a value that is not shown, expected the seed of an nkey (SU…)",
    ]);
    expect(one("database: { url: 'pg://u:hunter2@h/d' }")[0]).not.toContain("hunter2");
  });

  test("what stands in the list of the other kind of table is said where it belongs", () => {
    const polled = "is of polled tables: list this table under non_critical_tables";
    const captured = "is of tables that triggers capture: list this table under critical_tables, or leave it out";
    expect(one("critical_tables: [{ name: a, replication_mode: periodic }]")).toEqual([
      `r.yaml:1: critical_tables[0].replication_mode: "periodic" ${polled}`,
    ]);
    expect(one("critical_tables: [{ name: a, sync_interval: 5m }]")).toEqual([
      `r.yaml:1: critical_tables[0].sync_interval: ${polled}`,
    ]);
    expect(one("non_critical_tables: [{ name: a, capture: row }]")).toEqual([
      `r.yaml:1: non_critical_tables[0].capture: ${captured}`,
    ]);
  });

  test("a table is captured or polled, once, and a polled one has a topic of its own", () => {
    expect(one("critical_tables: [{ name: a }]\nnon_critical_tables:\n  - name: public.A")).toEqual([
      'r.yaml:3: non_critical_tables[0].name: names "public.A", which stands in critical_tables[0] as well: a table is either captured or polled',
    ]);
    expect(one("non_critical_tables:\n  - name: a\n  - name: a\n    topic: other")).toEqual([
      'r.yaml:3: non_critical_tables[1].name: names "a" a second time',
    ]);
    expect(one("critical_tables: [{ name: b, topic: a_changes_periodic }]\nnon_critical_tables:\n  - name: a")).toEqual(
      [
        'r.yaml:3: non_critical_tables[0].topic: is "a_changes_periodic", which critical_tables[0] ("b") has as well: a polled table needs a topic of its own',
      ],
    );
    expect(one("non_critical_tables:\n  - name: a\n    columns: { version: x, updated_at: x }")).toEqual([
      "r.yaml:3: non_critical_tables[0].columns: names one column twice: x, x",
    ]);
  });

  test("role sync needs a table to poll", () => {
    expect(problems({ environment: { ...BASE, ROLE: "sync" }, needs: RUN })).toEqual([
      "non_critical_tables: is missing, expected the tables that role sync polls",
    ]);
  });

  test("a file that is no YAML says where, a key written twice too", () => {
    expect(one("a: [1\nb: 2")[0]).toStartWith("r.yaml:2: is no YAML: ");
    expect(one("log: { level: info }\nlog: { level: debug }")[0]).toStartWith(
      "r.yaml:2: is no YAML: Map keys must be unique",
    );
    expect(one("kafka: { brokers: [${KAFKA}] }")[0]).toContain("needs quotes");
    expect(one("just text")).toEqual([
      "r.yaml:1: found no map of keys, expected one such as service: { contour: active }",
    ]);
  });

  test("a certificate file that is missing or no PEM names its path", () => {
    expect(one("kafka: { ssl: { ca: /no/ca.pem } }")).toEqual([
      'r.yaml:1: kafka.ssl.ca: Cannot read the file "/no/ca.pem": there is no such file',
    ]);
    expect(one("database: { sslrootcert: /no/ca.pem }")).toEqual([
      'r.yaml:1: database.sslrootcert: Cannot read the file "/no/ca.pem": there is no such file',
    ]);
    expect(one("database: { url: 'postgres://h/d?sslmode=verify-full&sslrootcert=/no/ca.pem' }")).toEqual([
      'r.yaml:1: database.url: Cannot read the file "/no/ca.pem": there is no such file',
    ]);
    expect(problems({ yaml: "nats: { tls: { ca: /ca.pem } }", files: { "/ca.pem": "der" } })).toEqual([
      'r.yaml:1: nats.tls.ca: found the file "/ca.pem" without "-----BEGIN", expected PEM',
    ]);
  });

  test("keys that depend on each other", () => {
    const running = (environment: Record<string, string>) =>
      problems({ environment: { ...BASE, ...environment }, needs: RUN })[0];
    expect(running({ BROKER: "kafka" })).toContain("kafka.brokers: is missing");
    expect(running({ BROKER: "nats" })).toContain("nats.servers: is missing");
    expect(running({ ROLE: "consumer" })).toContain("consumer.from: is missing");
    expect(running({ CONSUMER_FROM: "active" })).toContain('consumer.from: names "active", this contour itself');
    expect(running({ API_HOST: "0.0.0.0" })).toContain("api.token: is missing");
    expect(running({ NATS_USER: "u", NATS_TOKEN: "t" })).toContain("nats.token: stands beside user");
    expect(running({ KAFKA_TOPIC_REPLICATION_FACTOR: "1", KAFKA_TOPIC_MIN_INSYNC_REPLICAS: "2" })).toContain(
      "at most replication_factor",
    );
    expect(running({ ALERTS_LAG_WARNING: "1m", ALERTS_LAG_CRITICAL: "5s" })).toContain("at least lag_warning");
    expect(running({ DATABASE_COLUMNS_VERSION: "updated_at" })).toContain("database.columns: names one column twice");
    expect(running({ DATABASE_SSLCERT: "x" })).toContain(
      "database.sslkey: is missing, expected it beside database.sslcert",
    );
  });

  test("what a command needs is asked for, what it does not need is not", () => {
    expect(problems({ needs: RUN })).toEqual([
      "service.contour: is missing, expected the name of this site (SERVICE_CONTOUR, --contour)",
      "database.url: is missing, expected postgres://user@host:port/name (DATABASE_URL), or host, port, name, user",
      "broker: is missing, expected kafka, nats or memory (BROKER, --broker)",
    ]);
    expect(problems({ needs: { database: true } })).toHaveLength(1);
  });
});
