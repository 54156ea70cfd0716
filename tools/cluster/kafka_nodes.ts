/**
 * Three Kafka nodes (KRaft, each broker and controller) as they run on one machine: the settings of
 * compose/kafka/cluster.env with addresses of this machine. The tests and `bun run cluster kafka` start these.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { kafkaLibs, ROOT, which } from "../cache.mjs";

export interface KafkaPorts {
  readonly client: number;
  readonly controller: number;
}

export interface KafkaNode {
  /** `kafka-1` … `kafka-3` */
  readonly name: string;
  /** Its node.id. */
  readonly id: number;
  readonly ports: KafkaPorts;
  readonly program: string;
  readonly args: readonly string[];
  /** What it logs when it takes clients. */
  readonly ready: RegExp;
}

export interface KafkaNodesOptions {
  /** Of kafka-1, kafka-2, kafka-3. */
  readonly ports: readonly KafkaPorts[];
  /** Each node's files go to a folder of its name in here; one that has data goes on with it. */
  readonly data: string;
}

const COUNT = 3;
/** What all nodes of a cluster must be formatted with. */
const CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw";
/** A small heap: three of them on a laptop. */
export const JAVA = ["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"];

/** 9092 … 9094 and 9192 … 9194; or base … base+2 and base+10 …. */
export function kafkaPorts(base = 9_092, controllers = base === 9_092 ? 9_192 : base + 10): KafkaPorts[] {
  return Array.from({ length: COUNT }, (_, index) => ({ client: base + index, controller: controllers + index }));
}

/** Settings every node has, by the names of server.properties. */
export function kafkaSettings(): Record<string, string> {
  const lines = readFileSync(join(ROOT, "compose", "kafka", "cluster.env"), "utf8").split("\n");
  const pairs = lines.filter((line) => line.startsWith("KAFKA_")).map((line) => line.split("=") as [string, string]);
  return Object.fromEntries(
    pairs.map(([name, value]) => [name.slice("KAFKA_".length).toLowerCase().replaceAll("_", "."), value]),
  );
}

/** Writes the nodes' configuration and formats their storage. @throws Error when Java or Kafka is missing, or the format fails */
export function kafkaNodes(options: KafkaNodesOptions): KafkaNode[] {
  const program = java();
  const voters = options.ports.map(({ controller }, index) => `${index + 1}@127.0.0.1:${controller}`).join();
  return options.ports.map((ports, index) => {
    const id = index + 1;
    const name = `kafka-${id}`;
    const folder = join(options.data, name);
    mkdirSync(folder, { recursive: true });
    const settings = {
      ...kafkaSettings(),
      "node.id": String(id),
      "controller.quorum.voters": voters,
      listeners: `PLAINTEXT://127.0.0.1:${ports.client},CONTROLLER://127.0.0.1:${ports.controller}`,
      "advertised.listeners": `PLAINTEXT://127.0.0.1:${ports.client}`,
      "log.dirs": join(folder, "data"),
      "log.cleaner.dedupe.buffer.size": "4194304",
    };
    const properties = join(folder, "server.properties");
    writeFileSync(properties, writeProperties(settings));
    const common = [...JAVA, ...quietLogging(folder)];
    const format = ["kafka.tools.StorageTool", "format", `--cluster-id=${CLUSTER_ID}`, "--ignore-formatted"];
    const done = spawnSync(program, [...common, ...format, "-c", properties], { encoding: "utf8" });
    if (done.status !== 0) throw new Error(`Kafka's storage could not be formatted: ${done.stdout}${done.stderr}`);
    const ready = new RegExp(`\\[KafkaRaftServer nodeId=${id}\\] Kafka Server started`);
    return { name, id, ports, program, args: [...common, "kafka.Kafka", properties], ready };
  });
}

/** Path of Java. @throws Error when it, or Kafka, is not here */
export function java(): string {
  const program = which("java");
  if (!program) throw new Error("java is not installed");
  if (!existsSync(kafkaLibs())) throw new Error("Kafka is not in .cache: node tools/bootstrap.mjs kafka");
  return program;
}

export function writeProperties(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
}

/** Class path, and a log4j that prints warnings and "started". */
export function quietLogging(folder: string): string[] {
  const file = join(folder, "log4j2.properties");
  writeFileSync(
    file,
    `appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
logger.started.name=kafka.server.KafkaRaftServer
logger.started.level=INFO
`,
  );
  return ["-cp", join(kafkaLibs(), "*"), `-Dlog4j2.configurationFile=${file}`];
}
