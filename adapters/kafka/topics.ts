/** Topics: made when they are missing, left alone when they are there. */
import { ConfigResourceTypes } from "kafkajs";
import type { Channel } from "../../src/core/channel.ts";
import { ReplicatorError } from "../../src/core/errors.ts";
import type { AdminConnection } from "./admin.ts";
import { DEFAULT_RETENTION_MS, type KafkaContext, MAX_MESSAGE_BYTES, topicName } from "./options.ts";

const MOST_REPLICAS = 3;
const DEFAULT_REPLICAS = "default.replication.factor";

/** Number of partitions, or null when the topic does not exist. @throws ReplicatorError */
export async function partitionsOf(admin: AdminConnection, topic: string, signal: AbortSignal): Promise<number | null> {
  try {
    const { topics } = await admin.call(`look at topic "${topic}"`, signal, (client) =>
      client.fetchTopicMetadata({ topics: [topic] }),
    );
    return topics.find(({ name }) => name === topic)?.partitions.length ?? null;
  } catch (error) {
    if (error instanceof ReplicatorError && error.code === "broker.topic_missing") return null;
    throw error;
  }
}

/** One attempt. Safe from several processes at once. @throws ReplicatorError */
export async function ensureTopic(
  context: KafkaContext,
  admin: AdminConnection,
  channel: Channel,
  signal: AbortSignal,
): Promise<void> {
  const topic = topicName(channel);
  let found = await partitionsOf(admin, topic, signal);
  if (found === null) {
    const { brokers } = await admin.call("describe the cluster", signal, (client) => client.describeCluster());
    const usual = Math.max(brokers.length, await usualReplicas(admin, brokers[0]?.nodeId, signal));
    const replicas = context.topic.replicationFactor ?? Math.min(MOST_REPLICAS, usual);
    const created = await createTopic(context, admin, channel, replicas, signal).catch((error: unknown) => {
      const refused = error instanceof ReplicatorError && error.code === "broker.bad_replication_factor";
      // Brokers that have just started are fenced for a moment, and then even one replica is too many.
      if (refused && replicas <= brokers.length) throw notReady(topic, error);
      // A broker that is away comes back; a topic with fewer copies would stay as it is.
      if (refused && replicas <= Math.max(usual, context.brokers.length))
        throw tooFewBrokers(topic, { replicas, brokers: brokers.length }, error);
      throw error;
    });
    if (created) context.logger.info({ topic, partitions: channel.partitions, replicas }, `created topic "${topic}"`);
    found = await partitionsOf(admin, topic, signal);
    if (found === null) throw notReady(topic);
  }
  if (found < channel.partitions) throw tooFewPartitions(context, topic, found, channel.partitions);
}

/**
 * How many copies topics have in this cluster unless their maker says otherwise: brokers that are down are not in the
 * metadata, and this tells that there are more. 1 where the broker does not say.
 */
async function usualReplicas(admin: AdminConnection, broker: number | undefined, signal: AbortSignal): Promise<number> {
  if (broker === undefined) return 1;
  const asked = { type: ConfigResourceTypes.BROKER, name: String(broker), configNames: [DEFAULT_REPLICAS] };
  try {
    const { resources } = await admin.call("ask for the broker's settings", signal, (client) =>
      client.describeConfigs({ includeSynonyms: false, resources: [asked] }),
    );
    return (
      Number(resources[0]?.configEntries.find(({ configName }) => configName === DEFAULT_REPLICAS)?.configValue) || 1
    );
  } catch (error) {
    // Who may not read settings may still create topics.
    if (error instanceof ReplicatorError && error.code === "broker.not_authorized") return 1;
    throw error;
  }
}

/** False when it exists by now. */
function createTopic(
  context: KafkaContext,
  admin: AdminConnection,
  channel: Channel,
  replicas: number,
  signal: AbortSignal,
): Promise<boolean> {
  const topic = topicName(channel);
  const { minInsyncReplicas, retentionMs } = context.topic;
  const configEntries = [
    { name: "cleanup.policy", value: "delete" },
    { name: "min.insync.replicas", value: String(minInsyncReplicas ?? (replicas >= 3 ? 2 : 1)) },
    { name: "retention.ms", value: String(retentionMs ?? DEFAULT_RETENTION_MS) },
    { name: "max.message.bytes", value: String(MAX_MESSAGE_BYTES) },
  ];
  return admin.call(`create topic "${topic}"`, signal, (client) =>
    client.createTopics({
      topics: [{ topic, numPartitions: channel.partitions, replicationFactor: replicas, configEntries }],
    }),
  );
}

function notReady(topic: string, cause?: unknown): ReplicatorError {
  return new ReplicatorError({
    code: "broker.unavailable",
    message: `Cannot create topic "${topic}": the cluster is not ready`,
    retry: "backoff",
    fault: "environment",
    cause,
  });
}

function tooFewBrokers(
  topic: string,
  { replicas, brokers }: { readonly replicas: number; readonly brokers: number },
  cause: unknown,
): ReplicatorError {
  return new ReplicatorError({
    code: "broker.too_few_brokers",
    message: `Cannot create topic "${topic}" with ${replicas} copies: ${brokers} of the brokers are up`,
    retry: "backoff",
    fault: "environment",
    facts: { topic, replicas, brokers },
    remedy: "Start the brokers that are down, or ask for fewer copies: kafka.topic.replication_factor",
    cause,
  });
}

function tooFewPartitions(context: KafkaContext, topic: string, found: number, expected: number): ReplicatorError {
  return new ReplicatorError({
    code: "broker.too_few_partitions",
    message: `Expected topic "${topic}" to have ${expected} partitions, found ${found}`,
    retry: "never",
    fault: "environment",
    facts: { topic, found, expected },
    remedy: `kafka-topics.sh --bootstrap-server ${context.brokers.join(",")} --alter --topic ${topic} --partitions ${expected}`,
  });
}
