/** How many copies a topic gets that is made while a Kafka node is away. */
import { afterEach, expect, test } from "bun:test";
import { ConfigResourceTypes, Kafka, logLevel } from "kafkajs";
import { createKafkaBroker } from "../../adapters/kafka/broker.ts";
import type { KafkaOptions } from "../../adapters/kafka/options.ts";
import { topicName } from "../../adapters/kafka/options.ts";
import { startKafka } from "../servers/kafka.ts";
import { startKafkaCluster } from "../servers/kafka_cluster.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { failures, listeningLogger, messages, never, newChannel } from "./nats_support.ts";

describeWith("kafka", "a topic that is made while a Kafka node is away", () => {
  const closers: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });
  function broker(options: KafkaOptions) {
    const made = createKafkaBroker(options);
    closers.push(() => made.close());
    return made;
  }

  test("has three copies all the same, two confirm, and messages are taken", async () => {
    const cluster = await startKafkaCluster();
    closers.push(() => cluster.close());
    await cluster.nodes[2]?.kill();
    const brokers = cluster.brokers.slice(0, 2);
    const admin = new Kafka({ brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    closers.push(() => admin.disconnect());
    await until("the cluster has given the node up", async () => {
      const { brokers } = await admin.describeCluster();
      return brokers.length === 2 || brokers.length;
    });
    const one = broker({ brokers });
    const channel = newChannel();
    await one.ensureChannel(channel, never);
    const topic = topicName(channel);
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    expect(topics[0]?.partitions.map(({ replicas }) => replicas.length)).toEqual([3]);
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: ["min.insync.replicas"] }],
    });
    expect(resources[0]?.configEntries[0]?.configValue).toBe("2");
    expect(failures(await one.publisher().send(channel, messages(channel, 1, 10), 20_000))).toEqual([]);
  }, 240_000);

  test("waits where the cluster has not seen the node yet, saying so; an explicit number no cluster has is refused", async () => {
    const kafka = await startKafka({ settings: { "default.replication.factor": "3" } });
    closers.push(() => kafka.close());
    const { logger, lines } = listeningLogger();
    const stop = new AbortController();
    const waiting = broker({ brokers: [kafka.bootstrap], logger }).ensureChannel(newChannel(), stop.signal);
    waiting.catch(() => undefined);
    await until("it says what it waits for", () => lines.some((line) => line.includes("3 copies: 1 of")) || lines);
    stop.abort();
    await expect(waiting).rejects.toThrow();
    const greedy = broker({ brokers: [kafka.bootstrap], topic: { replicationFactor: 4 } });
    await expect(greedy.ensureChannel(newChannel(), never)).rejects.toMatchObject({
      code: "broker.bad_replication_factor",
    });
    const modest = broker({ brokers: [kafka.bootstrap], topic: { replicationFactor: 1 } });
    await modest.ensureChannel(newChannel(), never);
  }, 240_000);
});
