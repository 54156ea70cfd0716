/** Topics on a real broker: what is created, what is left alone, what is said about those that others made. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { type Admin, ConfigResourceTypes, Kafka, logLevel } from "kafkajs";
import { createKafkaBroker } from "../../adapters/kafka/broker.ts";
import type { KafkaTopicSettings } from "../../adapters/kafka/options.ts";
import { topicName } from "../../adapters/kafka/options.ts";
import type { Channel } from "../../src/core/channel.ts";
import {
  Claimant,
  failures,
  feedOf,
  message,
  messages,
  newChannel,
  range,
  sequenceOf,
  take,
  unique,
  World,
} from "../conformance/broker/suite_support.ts";
import { type KafkaServer, sharedKafka } from "../servers/kafka.ts";
import { describeWith } from "../support/needs.ts";

describeWith("kafka", "Kafka topics", () => {
  let server: KafkaServer;
  let admin: Admin;
  let world: World;

  beforeAll(async () => {
    server = await sharedKafka();
    admin = new Kafka({ brokers: [server.plainBootstrap], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
  }, 120_000);
  afterAll(() => admin.disconnect());
  beforeEach(() => {
    world = new World({ broker: () => createKafkaBroker({ brokers: [server.plainBootstrap] }), close: async () => {} });
  });
  afterEach(() => world.end());

  const broker = (topic: KafkaTopicSettings = {}) =>
    world.adopt(createKafkaBroker({ brokers: [server.plainBootstrap], topic }));

  async function settings(channel: Channel): Promise<Record<string, string>> {
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: ConfigResourceTypes.TOPIC, name: topicName(channel) }],
    });
    return Object.fromEntries(
      (resources[0]?.configEntries ?? []).map((entry) => [entry.configName, entry.configValue]),
    );
  }

  async function foreignTopic(config: Record<string, string>, partitions = 1): Promise<Channel> {
    const channel = newChannel({ kind: "events", partitions });
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }));
    await admin.createTopics({ topics: [{ topic: topicName(channel), numPartitions: partitions, configEntries }] });
    return channel;
  }

  test("a topic is created with its partitions and settings, and left alone afterwards", async () => {
    const channel = newChannel({ kind: "events", partitions: 3 });
    await broker({ retentionMs: 3_600_000 }).ensureChannel(channel, world.signal());
    expect(await settings(channel)).toMatchObject({
      "cleanup.policy": "delete",
      "retention.ms": "3600000",
      "min.insync.replicas": "1",
      "max.message.bytes": "2097152",
    });
    const { topics } = await admin.fetchTopicMetadata({ topics: [topicName(channel)] });
    expect(topics[0]?.partitions.length).toBe(3);
    await broker({ retentionMs: 7_200_000 }).ensureChannel({ ...channel, partitions: 2 }, world.signal());
    expect((await settings(channel))["retention.ms"]).toBe("3600000");
  }, 60_000);

  test("an existing topic with fewer partitions is an error that names the command", async () => {
    const channel = await foreignTopic({}, 1);
    const ensuring = broker().ensureChannel({ ...channel, partitions: 4 }, world.signal());
    await expect(ensuring).rejects.toMatchObject({
      code: "broker.too_few_partitions",
      retry: "never",
      message: expect.stringContaining("4 partitions, found 1"),
      remedy: expect.stringContaining(`--alter --topic ${topicName(channel)} --partitions 4`),
    });
  }, 60_000);

  test("a replication factor the cluster cannot give is an error that names the setting", async () => {
    const ensuring = broker({ replicationFactor: 3 }).ensureChannel(newChannel(), world.signal());
    await expect(ensuring).rejects.toMatchObject({
      code: "broker.bad_replication_factor",
      retry: "never",
      remedy: expect.stringContaining("kafka.topic.replication_factor"),
    });
  }, 60_000);

  test("a topic's name that Kafka does not take is an error, not an endless wait", async () => {
    const ensuring = broker().ensureChannel(newChannel({ kind: "events", name: "no spaces" }), world.signal());
    await expect(ensuring).rejects.toMatchObject({ code: "broker.bad_topic_name", retry: "never" });
  }, 60_000);

  test("a topic whose own limit is below our batch gets its messages in smaller ones", async () => {
    const channel = await foreignTopic({ "max.message.bytes": "100000" });
    const list = messages(channel, 1, 40, { body: new Uint8Array(30_000) });
    list[20] = message(channel, 21, { body: new Uint8Array(150_000) });
    const sender = broker();
    const outcomes = await sender.publisher().send(channel, list, 20_000);
    expect(outcomes.flatMap((outcome, i) => (outcome.ok ? [] : [i]))).toEqual([20]);
    expect(failures(outcomes)[0]).toMatchObject({ code: "broker.message_too_large", retry: "never" });
    const claim = await new Claimant(sender, feedOf(sender, channel), unique("g")).claim();
    const expected = range(1, 40).filter((n) => n !== 21);
    expect((await take(claim, null, 39)).map(sequenceOf)).toEqual(expected);
  }, 60_000);

  test("check finds what is wrong with a topic somebody else made, and says how to mend it", async () => {
    const channel = await foreignTopic({
      "cleanup.policy": "compact",
      "max.message.bytes": "500000",
      "retention.bytes": "1000000",
      "retention.ms": "60000",
    });
    const findings = await broker().check([{ ...channel, partitions: 2 }], world.signal());
    expect(findings.map(({ code, severity }) => `${severity} ${code}`).sort()).toEqual([
      "blocking broker.compacted_topic",
      "blocking broker.max_message_bytes",
      "blocking broker.too_few_partitions",
      "info broker.shared_topic",
      "warning broker.bounded_topic",
      "warning broker.replication_factor",
      "warning broker.short_retention",
    ]);
    for (const { remedy } of findings) expect(remedy).toMatch(/^(Let only .*)?kafka-[a-z-]+\.sh /);
  }, 60_000);

  test("a shared topic carries the contours' messages beside each other", async () => {
    const sender = broker();
    const name = unique("t");
    const channels = ["left", "right"].map((contour) => newChannel({ contour, name, kind: "events" }));
    for (const channel of channels) {
      await sender.ensureChannel(channel, world.signal());
      expect(failures(await sender.publisher().send(channel, messages(channel, 1, 3), 10_000))).toEqual([]);
    }
    const [feed, ...more] = sender.feeds(channels);
    expect(more).toEqual([]);
    if (!feed) throw new Error("Expected a feed");
    expect(feed.channels).toEqual(channels);
    const claim = await new Claimant(sender, feed, unique("g")).claim();
    const got = await take(claim, null, 6);
    expect(got.map((delivery) => `${delivery.headers["replicator-contour"]} ${sequenceOf(delivery)}`)).toEqual([
      "left 1",
      "left 2",
      "left 3",
      "right 1",
      "right 2",
      "right 3",
    ]);
  }, 60_000);
});
