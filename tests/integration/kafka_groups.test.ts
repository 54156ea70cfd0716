/** What the consumer group does to us, and we to it: members that die, offsets for tools, topics that go. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import { type Admin, Kafka, logLevel } from "kafkajs";
import { createKafkaBroker } from "../../adapters/kafka/broker.ts";
import { groupName, topicName } from "../../adapters/kafka/options.ts";
import {
  Claimant,
  Follower,
  feedOf,
  message,
  messages,
  newChannel,
  range,
  sendAll,
  sequenceOf,
  take,
  unique,
  Watch,
  World,
} from "../conformance/broker/suite_support.ts";
import { type KafkaServer, sharedKafka } from "../servers/kafka.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";

describeWith("kafka", "Kafka consumer groups", () => {
  let server: KafkaServer;
  let client: Kafka;
  let admin: Admin;
  let world: World;

  beforeAll(async () => {
    server = await sharedKafka();
    client = new Kafka({ brokers: [server.plainBootstrap], logLevel: logLevel.NOTHING });
    admin = client.admin();
    await admin.connect();
  }, 120_000);
  afterAll(() => admin.disconnect());
  beforeEach(() => {
    world = new World({
      broker: (options) => createKafkaBroker({ brokers: [server.plainBootstrap], ...options }),
      close: async () => {},
    });
  });
  afterEach(() => world.end());

  test("I8: the partitions of a member that is killed with SIGKILL come to the other within 9 s", async () => {
    const broker = world.open();
    const channel = await world.ensured(broker, { kind: "events", partitions: 2 });
    const group = unique("g");
    const watch = new Watch();
    const survivor = new Claimant(broker, feedOf(broker, channel), group, watch);
    await survivor.claim(1);
    const script = join(import.meta.dir, "kafka_member.ts");
    const member = Bun.spawn([process.execPath, script, server.plainBootstrap, group, JSON.stringify(channel)], {
      stdout: "pipe",
    });
    try {
      const said = member.stdout.getReader();
      expect(new TextDecoder().decode((await said.read()).value)).toStartWith("claim ");
      await watch.until(20_000, "the survivor has lost a partition", () => survivor.live.size === 1);
    } finally {
      member.kill("SIGKILL");
    }
    const killed = performance.now();
    await watch.until(20_000, "the survivor has both", () => survivor.live.size === 2);
    const took = performance.now() - killed;
    console.info(`handed over ${(took / 1_000).toFixed(1)} s after SIGKILL`);
    expect(took).toBeLessThan(9_000);
    await survivor.stop();
  }, 60_000);

  test("acknowledged offsets are shown to Kafka's tools, soon and at the end", async () => {
    const broker = world.open();
    const channel = await world.ensured(broker);
    await sendAll(broker, channel, messages(channel, 1, 10));
    const group = unique("g");
    const feed = feedOf(broker, channel);
    const claimant = new Claimant(broker, feed, group);
    const got = await take(await claimant.claim(), null, 9);
    const committed = async () => {
      const [topic] = await admin.fetchOffsets({ groupId: groupName(group, feed), topics: [feed.name] });
      return topic?.partitions[0]?.offset;
    };
    got[3]?.ack();
    await until("offset 4 is committed", async () => (await committed()) === "4" || (await committed()));
    got[1]?.ack();
    got[8]?.ack();
    await claimant.stop();
    expect(await committed()).toBe("9");
  }, 60_000);

  test("offsets that somebody has reset change nothing: the caller's position decides, at worst from the beginning", async () => {
    const broker = world.open();
    const channel = await world.ensured(broker);
    await sendAll(broker, channel, messages(channel, 1, 6));
    const group = unique("g");
    const feed = feedOf(broker, channel);
    const first = new Claimant(broker, feed, group);
    const got = await take(await first.claim(), null, 6);
    got[5]?.ack();
    await first.stop();
    await admin.setOffsets({
      groupId: groupName(group, feed),
      topic: feed.name,
      partitions: [{ partition: 0, offset: "6" }],
    });
    const second = new Claimant(broker, feed, group);
    // The reset took the log's name with it: the position is unknown, so nothing may be skipped.
    expect((await take(await second.claim(), got[2]?.next ?? null, 6)).map(sequenceOf)).toEqual(range(1, 6));
    await second.stop();
  }, 60_000);

  test("a topic that is deleted under a reader ends its claim; made anew, it is read from its beginning", async () => {
    const broker = world.open();
    const channel = await world.ensured(broker);
    await sendAll(broker, channel, messages(channel, 1, 5));
    const follower = new Follower(broker, feedOf(broker, channel), unique("g"));
    await follower.received(5);
    const [claim] = follower.claimant.seen;
    await admin.deleteTopics({ topics: [topicName(channel)] });
    await follower.watch.until(30_000, "the claim is lost", () => claim?.lost.aborted === true);
    await until("the topic is gone", async () => !(await admin.listTopics()).includes(topicName(channel)));
    const maker = world.open();
    await maker.ensureChannel(channel, world.signal());
    // More than the old one had: an offset of the old log would skip some.
    await sendAll(maker, channel, messages(channel, 101, 110));
    await follower.received(15, 60_000);
    expect(follower.sequences()).toEqual([...range(1, 5), ...range(101, 110)]);
    await follower.stop();
  }, 120_000);

  test("partitions added to a topic are claimed without a restart", async () => {
    const broker = world.open();
    const channel = await world.ensured(broker, { kind: "events", partitions: 1 });
    const claimant = new Claimant(broker, feedOf(broker, channel), unique("g"));
    await claimant.claim(0);
    await admin.createPartitions({ topicPartitions: [{ topic: topicName(channel), count: 2 }] });
    await claimant.claim(1, 60_000);
    await claimant.stop();
  }, 90_000);

  test("a foreign transaction that stays open on a shared topic does not hold up the messages behind it", async () => {
    const broker = world.open();
    const channel = await world.ensured(broker, { kind: "events" });
    const producer = client.producer({
      transactionalId: unique("x"),
      idempotent: true,
      maxInFlightRequests: 1,
      createPartitioner: () => () => 0,
    });
    await producer.connect();
    const transaction = await producer.transaction();
    await transaction.send({ topic: topicName(channel), messages: [{ value: "foreign" }] });
    await sendAll(broker, channel, [message(channel, 1)]);
    const feed = feedOf(broker, channel);
    const claim = await new Claimant(broker, feed, unique("g")).claim();
    const got = await take(claim, null, 2);
    expect(got[1] && sequenceOf(got[1])).toBe(1);
    await sendAll(broker, channel, [message(channel, 2)]);
    // A position behind the open transaction is one like any other.
    expect(await broker.lag(feed, 0, got[1]?.next ?? null)).toEqual({ messages: 1 });
    expect((await take(claim, got[1]?.next ?? null, 1)).map(sequenceOf)).toEqual([2]);
    await transaction.commit();
    await sendAll(broker, channel, [message(channel, 3)]);
    // Between them lies the transaction's control record, which is no message.
    const rest = await take(claim, got[1]?.next ?? null, 2);
    expect(rest.map(sequenceOf)).toEqual([2, 3]);
    await producer.disconnect();
  }, 60_000);

  test("I11: with 100 MB to read and a reader that stands still, the process does not grow", async () => {
    const sender = world.open();
    const channel = await world.ensured(sender);
    const body = new Uint8Array(500_000);
    for (const first of range(0, 9))
      await sendAll(sender, channel, messages(channel, first * 20 + 1, first * 20 + 20, { body }));
    const reader = createKafkaBroker({ brokers: [server.plainBootstrap] });
    world.adopt(reader);
    const claim = await new Claimant(reader, feedOf(reader, channel), unique("g")).claim();
    Bun.gc(true);
    const before = process.memoryUsage.rss();
    const reading = claim.read(null, world.signal())[Symbol.asyncIterator]();
    await reading.next();
    await until("the window is full", () => reader.heldBytes > 4_000_000 || reader.heldBytes);
    let most = 0;
    for (let count = 0; count < 20; count++) {
      await admin.describeCluster();
      most = Math.max(most, process.memoryUsage.rss() - before);
    }
    expect(most).toBeLessThan(60_000_000);
    await reading.return?.();
  }, 90_000);
});

test("topic names: the default channel is the contour's own, a named topic is Kafka's own", () => {
  expect(topicName(newChannel({ contour: "active" }))).toBe("replicator.active.changes");
  expect(topicName(newChannel({ contour: "active", name: "users_changes", kind: "events" }))).toBe("users_changes");
});
