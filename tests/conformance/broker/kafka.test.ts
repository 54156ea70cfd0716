import { Kafka, logLevel } from "kafkajs";
import { createKafkaBroker, KafkaBroker } from "../../../adapters/kafka/broker.ts";
import { topicName } from "../../../adapters/kafka/options.ts";
import { startKafka } from "../../servers/kafka.ts";
import { freePort } from "../../servers/scratch.ts";
import { describeWith } from "../../support/needs.ts";
import { until } from "../../support/until.ts";
import type { BrokerFixture } from "./fixture.ts";
import { describeBroker } from "./suite.ts";

const USER = { mechanism: "scram-sha-256", username: "replicator", password: "a secret" } as const;

async function open(): Promise<BrokerFixture> {
  // Its own server: the suite stops and freezes it.
  const server = await startKafka({ sasl: USER });
  const nobody = `127.0.0.1:${await freePort()}`;
  const client = new Kafka({ brokers: [server.plainBootstrap], logLevel: logLevel.NOTHING });
  const withAdmin = async <T>(work: (admin: ReturnType<Kafka["admin"]>) => Promise<T>): Promise<T> => {
    const admin = client.admin();
    await admin.connect();
    try {
      return await work(admin);
    } finally {
      await admin.disconnect();
    }
  };
  return {
    broker: (options) => createKafkaBroker({ brokers: [server.plainBootstrap], ...options }),
    unreachable: () => createKafkaBroker({ brokers: [nobody] }),
    wrongCredentials: () => createKafkaBroker({ brokers: [server.bootstrap], sasl: { ...USER, password: "wrong" } }),
    server: {
      stop: () => server.stop(),
      start: () => server.start(),
      freeze: () => server.pause(),
      thaw: () => server.unpause(),
    },
    async sendForeign(channel, { partition, key, body, headers }) {
      const producer = client.producer({ createPartitioner: () => () => partition });
      await producer.connect();
      // Kafka knows records without a value, too: the empty body is one.
      const value = body.byteLength === 0 ? null : Buffer.from(body);
      await producer.send({
        topic: topicName(channel),
        messages: [{ partition, key, value, headers: { ...headers } }],
      });
      await producer.disconnect();
    },
    dropOldest: (channel, partition, count) =>
      withAdmin(async (admin) => {
        // kafkajs deletes records only of topics it has looked at.
        await admin.fetchTopicOffsets(topicName(channel));
        await admin.deleteTopicRecords({
          topic: topicName(channel),
          partitions: [{ partition, offset: String(count) }],
        });
      }),
    recreate: (channel) =>
      withAdmin(async (admin) => {
        await admin.deleteTopics({ topics: [topicName(channel)] });
        await until("the topic is gone", async () => !(await admin.listTopics()).includes(topicName(channel)));
        await admin.createTopics({ topics: [{ topic: topicName(channel), numPartitions: channel.partitions }] });
      }),
    heldBytes: (broker) => (broker instanceof KafkaBroker ? broker.heldBytes : Number.NaN),
    close: () => server.close(),
  };
}

describeWith("kafka", "Kafka", () => {
  describeBroker("kafka", open, {
    claims: "assigned",
    unreachable: true,
    wrongCredentials: true,
    server: true,
    sendForeign: true,
    dropOldest: true,
    recreate: true,
    heldBytes: true,
  });
});
