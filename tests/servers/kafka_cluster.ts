/** Three real Kafka nodes as compose/kafka/cluster.env has them. */
import { join } from "node:path";
import { type KafkaPorts, kafkaNodes } from "../../tools/cluster/kafka_nodes.ts";
import { freePort, scratch } from "./scratch.ts";
import { type TestServer, testServer } from "./server.ts";

export interface KafkaClusterNode extends TestServer {
  readonly name: string;
  /** Its node.id. */
  readonly id: number;
}

export interface KafkaCluster {
  readonly nodes: readonly KafkaClusterNode[];
  /** host:port of every node. */
  readonly brokers: readonly string[];
  close(): Promise<void>;
}

export async function startKafkaCluster(): Promise<KafkaCluster> {
  const ports: KafkaPorts[] = [];
  for (let node = 0; node < 3; node++) ports.push({ client: await freePort(), controller: await freePort() });
  const data = scratch("kafka-cluster");
  const nodes = kafkaNodes({ ports, data }).map(({ name, id, program, args, ready }) => ({
    ...testServer({ name, program, args, ready, cwd: data, folder: join(data, name), timeoutMs: 120_000 }),
    name,
    id,
  }));
  await Promise.all(nodes.map((node) => node.start()));
  return {
    nodes,
    brokers: ports.map(({ client }) => `127.0.0.1:${client}`),
    close: async () => {
      await Promise.all(nodes.map((node) => node.close()));
    },
  };
}
