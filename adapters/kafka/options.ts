/** What the Kafka adapter is told, and the names and limits it derives from it. */
import type { Feed } from "../../src/core/broker.ts";
import { type Channel, DEFAULT_CHANNEL } from "../../src/core/channel.ts";
import type { Clock } from "../../src/core/clock.ts";
import type { Logger } from "../../src/core/logger.ts";
import { MESSAGE_LIMIT } from "../../src/core/message.ts";

export interface KafkaTls {
  /** PEM text. Left out: the certificate authorities of the runtime. */
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

export interface KafkaSasl {
  readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512";
  readonly username: string;
  readonly password: string;
}

/** For topics that do not exist yet; one that exists is left as it is. */
export interface KafkaTopicSettings {
  /** Default: the smaller of 3 and the number of brokers. */
  readonly replicationFactor?: number | undefined;
  /** Default: 2 where there are 3 replicas, else 1. */
  readonly minInsyncReplicas?: number | undefined;
  /** Default: 7 days. */
  readonly retentionMs?: number | undefined;
}

export interface KafkaOptions {
  /** `host:port`, at least one. */
  readonly brokers: readonly string[];
  /** true: TLS with the runtime's certificate authorities. The server is always verified. */
  readonly ssl?: true | KafkaTls | undefined;
  readonly sasl?: KafkaSasl | undefined;
  readonly topic?: KafkaTopicSettings | undefined;
  /** Shown in the broker's logs and quotas. */
  readonly clientId?: string | undefined;
  readonly logger?: Logger | undefined;
  readonly clock?: Clock | undefined;
  /** Bytes of messages held for one claim at most (I11); a message larger than that passes alone. 8 MB. */
  readonly bufferBytes?: number | undefined;
}

/** The options with their defaults. */
export interface KafkaContext {
  readonly brokers: readonly string[];
  readonly ssl: true | KafkaTls | undefined;
  readonly sasl: KafkaSasl | undefined;
  readonly topic: KafkaTopicSettings;
  readonly clientId: string;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly bufferBytes: number;
}

export const DEFAULT_RETENTION_MS = 7 * 24 * 3_600_000;

/** Room for a message of the product's limit with key, headers and the batch around it. */
export const MAX_MESSAGE_BYTES = 2_097_152;
export const LEAST_MESSAGE_BYTES = MESSAGE_LIMIT + 65_536;

/** The topic a channel travels in: the contour's own for the default channel, else the configured one, shared by the contours. */
export function topicName(channel: Pick<Channel, "contour" | "name" | "kind">): string {
  const own = channel.kind === "frames" || channel.name === DEFAULT_CHANNEL;
  return own ? `replicator.${channel.contour}.${channel.name}` : channel.name;
}

/**
 * One consumer group a topic, not one for all: a client of the group would be given topics it does not read (the
 * assignor of kafkajs looks at one member's subscription only), and a rebalance of one topic would stop all.
 */
export function groupName(group: string, feed: Feed): string {
  return `${group}.${feed.name}`;
}

export function groupChannels(channels: readonly Channel[]): Feed[] {
  const feeds = new Map<string, { name: string; partitions: number; channels: Channel[] }>();
  for (const channel of channels) {
    const name = topicName(channel);
    const feed = feeds.get(name) ?? { name, partitions: 0, channels: [] };
    feed.partitions = Math.max(feed.partitions, channel.partitions);
    feed.channels.push(channel);
    feeds.set(name, feed);
  }
  return [...feeds.values()];
}
