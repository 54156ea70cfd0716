/** What compose/ holds, as far as it can be tried without Docker: it parses, its files are there, its configurations load. */
import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { loadConfig } from "../../src/config/load.ts";
import { natsServer, ROOT } from "../../tools/cache.mjs";
import { kafkaSettings } from "../../tools/cluster/kafka_nodes.ts";
import { natsNodes, natsPorts } from "../../tools/cluster/nats_nodes.ts";
import { describeWith } from "../support/needs.ts";

interface Service {
  readonly image?: string;
  readonly environment?: Readonly<Record<string, string | number>>;
  readonly env_file?: readonly string[];
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly command?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
}
interface Compose {
  readonly include?: readonly string[];
  readonly services: Readonly<Record<string, Service>>;
}

const folder = join(ROOT, "compose");
const files = readdirSync(folder).filter((name) => {
  return name.endsWith(".yaml") && !name.startsWith("replicator");
});

/** With `${NAME:-default}` replaced as Docker does it, and what it includes. */
function compose(name: string): Compose {
  const text = readFileSync(join(folder, name), "utf8").replace(/\$\{[A-Z_]+:-([^}]*)\}/g, "$1");
  const own = parse(text, { merge: true }) as Compose;
  const included = (own.include ?? []).map((other) => compose(other).services);
  return { ...own, services: Object.assign({}, ...included, own.services) };
}

describe.each(files)("compose/%s", (name) => {
  const { services } = compose(name);

  test("names only files and services that are there, and each port once", () => {
    const paths = Object.values(services).flatMap(({ volumes = [], env_file = [] }) => [
      ...volumes.map((volume) => volume.split(":")[0] ?? ""),
      ...env_file,
    ]);
    expect(paths.filter((path) => !existsSync(join(folder, path)))).toEqual([]);
    const needed = Object.values(services).flatMap(({ depends_on = {} }) => Object.keys(depends_on));
    expect(needed.filter((other) => !services[other])).toEqual([]);
    const ports = Object.values(services).flatMap(({ ports = [] }) => ports.map((port) => port.split(":")[0]));
    expect(ports).toEqual([...new Set(ports)]);
  });

  test("its replicators' configuration is accepted", () => {
    for (const [service, { environment, volumes = [] }] of Object.entries(services)) {
      if (!service.startsWith("replicator-")) continue;
      const file = join(folder, volumes[0]?.split(":")[0] ?? "");
      const values = Object.fromEntries(Object.entries(environment ?? {}).map(([key, value]) => [key, String(value)]));
      const { config } = loadConfig({
        file,
        environment: values,
        needs: { contour: true, database: true, broker: true },
      });
      expect(config.service.contour).toBe(service.slice("replicator-".length));
      const brokers = config.broker === "nats" ? config.nats.servers : config.kafka.brokers;
      const hosts = brokers.map((address) => address.replace(/^.*\/\//, "").split(":")[0] ?? "");
      expect(hosts.filter((host) => !services[host])).toEqual([]);
    }
  });
});

describe("compose/kafka-cluster.yaml", () => {
  test("has three nodes with the same settings: three copies, two confirm, no copy that was behind ever leads", () => {
    const nodes = Object.entries(compose("kafka-cluster.yaml").services).filter(([name]) => name.startsWith("kafka-"));
    expect(nodes.map(([, { environment }]) => environment?.KAFKA_NODE_ID)).toEqual([1, 2, 3]);
    for (const [name, { environment, env_file }] of nodes) {
      expect(env_file).toEqual(["kafka/cluster.env"]);
      expect(environment?.KAFKA_ADVERTISED_LISTENERS).toBe(`PLAINTEXT://${name}:9092`);
      expect(String(environment?.KAFKA_CONTROLLER_QUORUM_VOTERS).split(",")).toHaveLength(3);
    }
    expect(kafkaSettings()).toMatchObject({
      "default.replication.factor": "3",
      "min.insync.replicas": "2",
      "offsets.topic.replication.factor": "3",
      "transaction.state.log.min.isr": "2",
      "unclean.leader.election.enable": "false",
      "auto.create.topics.enable": "false",
    });
  });
});

describeWith("nats", "compose/nats-clusters.yaml", () => {
  const accepted = (config: string, environment: Readonly<Record<string, string | number>>) => {
    const env = Object.fromEntries(Object.entries(environment).map(([key, value]) => [key, String(value)]));
    const done = spawnSync(natsServer(), ["-t", "-c", config], { env, encoding: "utf8" });
    return done.status === 0 || done.stderr;
  };

  test("nats-server accepts the configuration of every server, in the containers and on this machine", () => {
    const servers = Object.entries(compose("nats-clusters.yaml").services).filter(([name]) => name.startsWith("nats-"));
    expect(servers.map(([name]) => name)).toEqual(natsNodes(local).map(({ name }) => name));
    for (const [name, { command = [], environment = {} }] of servers) {
      expect(environment.NATS_NAME).toBe(name);
      const config = join(folder, (command[1] ?? "").replace("/etc/nats/", "nats/"));
      expect(accepted(config, environment)).toBe(true);
    }
    for (const { config, environment } of natsNodes(local)) expect(accepted(config, environment)).toBe(true);
  });

  test("nats-server refuses it when a variable is not set: no password stands in the files", () => {
    const [node] = natsNodes(local);
    const { NATS_PASSWORD, ...rest } = node?.environment ?? {};
    expect(NATS_PASSWORD).toBe('"1234"');
    expect(accepted(node?.config ?? "", rest)).toContain("NATS_PASSWORD");
  });

  test("both clusters are the same but for their names", () => {
    const [a = "", b = ""] = ["a", "b"].map((name) =>
      readFileSync(join(folder, "nats", `cluster-${name}.conf`), "utf8"),
    );
    const code = (text: string) => text.split("\n").filter((line) => !line.trimStart().startsWith("#"));
    const names = code(a).flatMap((line, at) => (line === code(b)[at] ? [] : [[line.trim(), code(b)[at]?.trim()]]));
    expect(names).toEqual([
      ["name: CLUSTER_A", "name: CLUSTER_B"],
      ["name: CLUSTER_A", "name: CLUSTER_B"],
    ]);
  });

  // A password of digits stays text.
  const local = { ports: natsPorts(), data: "/nowhere", password: "1234", adminPassword: "1234" };
});
