/** Real Kafka brokers: KRaft, broker and controller in one process. */
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { JAVA, java, quietLogging, writeProperties } from "../../tools/cluster/kafka_nodes.ts";
import { freePort, scratch } from "./scratch.ts";
import { type TestServer, testServer } from "./server.ts";

export interface KafkaOptions {
  /** PEM texts. `bootstrap` then speaks TLS only; `clientAuth` makes it ask for the client's certificate. */
  readonly ssl?: { readonly ca: string; readonly cert: string; readonly key: string; readonly clientAuth?: boolean };
  /** `bootstrap` then asks for this SCRAM user. Without `ssl` it is SASL without TLS. */
  readonly sasl?: {
    readonly mechanism?: "scram-sha-256" | "scram-sha-512";
    readonly username: string;
    readonly password: string;
  };
  /** Lines of server.properties, over the defaults. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Java's options, over the small heap of a test broker. */
  readonly java?: readonly string[];
}

export interface KafkaServer extends TestServer {
  /** host:port for clients: with TLS and SCRAM when they were asked for. */
  readonly bootstrap: string;
  /** host:port of the listener without either, for setting things up. */
  readonly plainBootstrap: string;
}

/** A started broker of its own. It ends with this process if nobody stops it. */
export async function startKafka(options: KafkaOptions = {}): Promise<KafkaServer> {
  const folder = scratch("kafka");
  const [plain, controller, secure] = [await freePort(), await freePort(), await freePort()];
  const protocol = `${options.sasl ? "SASL_" : ""}${options.ssl ? "SSL" : "PLAINTEXT"}`;
  const isSecured = options.ssl !== undefined || options.sasl !== undefined;
  const settings: Record<string, string> = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.voters": `1@127.0.0.1:${controller}`,
    listeners: [
      `PLAIN://127.0.0.1:${plain}`,
      `CONTROLLER://127.0.0.1:${controller}`,
      ...(isSecured ? [`SECURE://127.0.0.1:${secure}`] : []),
    ].join(),
    "advertised.listeners": [
      `PLAIN://127.0.0.1:${plain}`,
      ...(isSecured ? [`SECURE://localhost:${secure}`] : []),
    ].join(),
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAIN",
    "listener.security.protocol.map": `PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:${protocol}`,
    "log.dirs": join(folder, "data"),
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "2",
    "group.initial.rebalance.delay.ms": "0",
    // A broker that was killed is let in again when its old session has ended.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "300",
    "log.cleaner.dedupe.buffer.size": "4194304",
    ...(options.ssl ? tls(folder, options.ssl) : {}),
    ...(options.sasl ? scram(options.sasl) : {}),
    ...options.settings,
  };
  const properties = join(folder, "server.properties");
  writeFileSync(properties, writeProperties(settings));
  const common = quietLogging(folder);
  format(common, properties, options.sasl);
  const server: KafkaServer = {
    ...testServer({
      name: "Kafka",
      program: java(),
      args: [...(options.java ?? JAVA), ...common, "kafka.Kafka", properties],
      cwd: folder,
      folder,
      ready: /\[KafkaRaftServer nodeId=1\] Kafka Server started/,
      timeoutMs: 90_000,
    }),
    bootstrap: isSecured ? `localhost:${secure}` : `127.0.0.1:${plain}`,
    plainBootstrap: `127.0.0.1:${plain}`,
  };
  await server.start();
  return server;
}

function mechanism(sasl: NonNullable<KafkaOptions["sasl"]>): string {
  return (sasl.mechanism ?? "scram-sha-256").toUpperCase();
}

function scram(sasl: NonNullable<KafkaOptions["sasl"]>): Record<string, string> {
  const name = mechanism(sasl);
  return {
    "sasl.enabled.mechanisms": name,
    [`listener.name.secure.${name.toLowerCase()}.sasl.jaas.config`]:
      "org.apache.kafka.common.security.scram.ScramLoginModule required;",
  };
}

function tls(folder: string, ssl: NonNullable<KafkaOptions["ssl"]>): Record<string, string> {
  const keyFile = join(folder, "key.pem");
  const caFile = join(folder, "ca.pem");
  writeFileSync(keyFile, `${ssl.key}\n${ssl.cert}`, { mode: 0o600 });
  writeFileSync(caFile, ssl.ca);
  return {
    "ssl.keystore.type": "PEM",
    "ssl.keystore.location": keyFile,
    "ssl.truststore.type": "PEM",
    "ssl.truststore.location": caFile,
    "ssl.client.auth": ssl.clientAuth ? "required" : "none",
  };
}

function format(common: readonly string[], properties: string, sasl: KafkaOptions["sasl"]): void {
  const id = randomUUID().replaceAll("-", "");
  const cluster = Buffer.from(id, "hex").toString("base64url");
  const user = sasl ? ["--add-scram", `${mechanism(sasl)}=[name=${sasl.username},password=${sasl.password}]`] : [];
  const args = [
    ...JAVA,
    ...common,
    "kafka.tools.StorageTool",
    "format",
    `--cluster-id=${cluster}`,
    "-c",
    properties,
    ...user,
  ];
  const done = spawnSync(java(), args, { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`Kafka's storage could not be formatted: ${done.stdout}${done.stderr}`);
}

let shared: Promise<KafkaServer> | undefined;

/** One broker for all tests of this process. Do not stop it; take a broker of your own for that. */
export function sharedKafka(): Promise<KafkaServer> {
  shared ??= startKafka();
  return shared;
}
