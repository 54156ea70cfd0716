/** Preflight of the topics for `check`: what of the cluster's settings could lose or stop messages, and the command that mends it. */
import { ConfigResourceTypes } from "kafkajs";
import type { BrokerFinding } from "../../src/core/broker.ts";
import type { Channel } from "../../src/core/channel.ts";
import { ReplicatorError } from "../../src/core/errors.ts";
import type { AdminConnection } from "./admin.ts";
import { DEFAULT_RETENTION_MS, groupChannels, type KafkaContext, LEAST_MESSAGE_BYTES } from "./options.ts";

interface TopicState {
  readonly partitions: number;
  readonly replicas: number;
  readonly settings: ReadonlyMap<string, string> | null;
}

const SETTINGS = [
  "cleanup.policy",
  "min.insync.replicas",
  "retention.ms",
  "retention.bytes",
  "max.message.bytes",
  "unclean.leader.election.enable",
];

/** @throws ReplicatorError when the cluster cannot be asked */
export async function checkTopics(
  context: KafkaContext,
  admin: AdminConnection,
  channels: readonly Channel[],
  signal: AbortSignal,
): Promise<BrokerFinding[]> {
  const findings: BrokerFinding[] = [];
  for (const feed of groupChannels(channels)) {
    const state = await topicState(admin, feed.name, signal);
    if (state === null) {
      findings.push({
        severity: "info",
        code: "broker.topic_missing",
        message: `Topic "${feed.name}" does not exist yet`,
        remedy: "Its publisher creates it when it starts",
      });
      continue;
    }
    findings.push(...topicFindings(context, feed.name, feed.partitions, state));
    if (feed.channels.length > 1 || feed.channels.some(({ kind }) => kind === "events")) {
      findings.push({
        severity: "info",
        code: "broker.shared_topic",
        message: `Topic "${feed.name}" is shared by the contours: whoever may write it can write as any of them`,
        remedy: `Let only the replicators write it: kafka-acls.sh --add --allow-principal User:<replicator> --operation Write --topic ${feed.name}; tables of the default channel can be guarded contour by contour`,
      });
    }
  }
  return findings;
}

async function topicState(admin: AdminConnection, topic: string, signal: AbortSignal): Promise<TopicState | null> {
  try {
    const { topics } = await admin.call(`look at topic "${topic}"`, signal, (client) =>
      client.fetchTopicMetadata({ topics: [topic] }),
    );
    const partitions = topics.find(({ name }) => name === topic)?.partitions ?? [];
    return {
      partitions: partitions.length,
      replicas: Math.min(...partitions.map(({ replicas }) => replicas.length)),
      settings: await topicSettings(admin, topic, signal),
    };
  } catch (error) {
    if (error instanceof ReplicatorError && error.code === "broker.topic_missing") return null;
    throw error;
  }
}

/** Null where we may not ask. */
async function topicSettings(admin: AdminConnection, topic: string, signal: AbortSignal) {
  try {
    const { resources } = await admin.call(`read the settings of topic "${topic}"`, signal, (client) =>
      client.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: SETTINGS }],
      }),
    );
    return new Map((resources[0]?.configEntries ?? []).map((entry) => [entry.configName, entry.configValue]));
  } catch (error) {
    if (error instanceof ReplicatorError && error.code === "broker.not_authorized") return null;
    throw error;
  }
}

/** Pure: what is to be said of one topic. */
export function topicFindings(
  context: Pick<KafkaContext, "brokers" | "topic">,
  topic: string,
  partitions: number,
  state: TopicState,
): BrokerFinding[] {
  const server = `--bootstrap-server ${context.brokers.join(",")}`;
  const set = (setting: string) =>
    `kafka-configs.sh ${server} --alter --entity-type topics --entity-name ${topic} --add-config ${setting}`;
  const findings: BrokerFinding[] = [];
  const say = (severity: BrokerFinding["severity"], code: string, message: string, remedy: string) =>
    findings.push({ severity, code: `broker.${code}`, message: `Topic "${topic}" ${message}`, remedy });

  if (state.partitions < partitions) {
    say(
      "blocking",
      "too_few_partitions",
      `has ${state.partitions} partitions, configured are ${partitions}`,
      `kafka-topics.sh ${server} --alter --topic ${topic} --partitions ${partitions}`,
    );
  }
  if (state.replicas < 2) {
    say(
      "warning",
      "replication_factor",
      "has one replica: with its broker's disk, messages that were confirmed are gone",
      `kafka-reassign-partitions.sh ${server} with three replicas a partition; kafka.topic.replication_factor for new topics`,
    );
  }
  if (state.settings === null) {
    say(
      "info",
      "settings_hidden",
      "does not show us its settings, so they were not checked",
      `kafka-acls.sh ${server} --add --allow-principal User:<replicator> --operation DescribeConfigs --topic ${topic}`,
    );
    return findings;
  }

  const number = (name: string) => Number(state.settings?.get(name) ?? Number.NaN);
  if (state.replicas >= 2 && number("min.insync.replicas") < 2) {
    say(
      "warning",
      "min_insync_replicas",
      "confirms messages that one broker has (min.insync.replicas is 1)",
      set("min.insync.replicas=2"),
    );
  }
  if (state.settings.get("cleanup.policy")?.includes("compact")) {
    say(
      "blocking",
      "compacted_topic",
      "is compacted: messages vanish from its middle, which stops its readers",
      set("cleanup.policy=delete"),
    );
  }
  const wanted = context.topic.retentionMs ?? DEFAULT_RETENTION_MS;
  const retention = number("retention.ms");
  if (retention >= 0 && retention < wanted) {
    say(
      "warning",
      "short_retention",
      `keeps messages for ${hours(retention)}, configured are ${hours(wanted)}: a contour that is away for longer misses changes`,
      set(`retention.ms=${wanted}`),
    );
  }
  if (number("retention.bytes") >= 0) {
    say(
      "warning",
      "bounded_topic",
      `drops messages above ${number("retention.bytes")} bytes a partition, read or not`,
      set("retention.bytes=-1"),
    );
  }
  if (number("max.message.bytes") < LEAST_MESSAGE_BYTES) {
    say(
      "blocking",
      "max_message_bytes",
      `takes messages of ${number("max.message.bytes")} bytes, the product sends up to ${LEAST_MESSAGE_BYTES}`,
      set("max.message.bytes=2097152"),
    );
  }
  if (state.settings.get("unclean.leader.election.enable") === "true") {
    say(
      "warning",
      "unclean_leader_election",
      "may lose confirmed messages when brokers fail (unclean.leader.election.enable)",
      set("unclean.leader.election.enable=false"),
    );
  }
  return findings;
}

function hours(ms: number): string {
  return ms % 86_400_000 === 0 ? `${ms / 86_400_000} days` : `${(ms / 3_600_000).toFixed(1)} hours`;
}
