/** The ledger decides where reading goes on: the broker's own position may be lost or wrong, and a lease may be another's (I4 I8). */
import { afterEach, expect, test } from "bun:test";
import { AckPolicy, DeliverPolicy, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { Kafka, logLevel } from "kafkajs";
import { sharedKafka } from "../servers/kafka.ts";
import { sharedNats } from "../servers/nats.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type Contour, untilEqual } from "./harness.ts";
import { BROKERS, type BrokerKind, openPair, type Pair } from "./pair.ts";

const DDL = `
CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);
CREATE TABLE events (id bigint PRIMARY KEY, v text);
`;
const TABLES = { users: "id", events: "id" };

/** What a person, or an accident, does to a group while its consumer is down. */
interface GroupHand {
  /** The group's position in every feed is gone. */
  lose(): Promise<void>;
  /** It stands behind the last message, read or not. */
  skip(): Promise<void>;
  /** It stands at the beginning. */
  rewind(): Promise<void>;
}

for (const broker of BROKERS) {
  describeWith([broker, "postgres"], `position over ${broker}`, () => {
    let pair: Pair | undefined;
    afterEach(() => pair?.close());

    async function open(): Promise<Pair> {
      pair = await openPair({
        broker,
        ddl: DDL,
        tables: [{ name: "users" }, { name: "events", topic: "events_changes" }],
        kafkaTopic: { partitions: 2 },
      });
      return pair;
    }

    for (const harm of ["lose", "skip", "rewind"] as const) {
      const what = { lose: "a lost", skip: "a skipping", rewind: "a stale" }[harm];
      test(`I4: ${what} broker position is survived by the ledger: nothing is missed, nothing applied twice`, async () => {
        const { a, b } = await open();
        await a.start("publisher");
        const consumer = await b.start("consumer");
        await write(a, 1);
        await untilEqual([a, b], TABLES);
        expect(await consumer.stop()).toBe(0);
        await write(a, 2);
        await untilPublished(a);
        await (await groupOf(broker, a, b))[harm]();
        await write(a, 3);
        await b.start("consumer");
        await untilEqual([a, b], TABLES);
        await expectAppliedOnce(b);
      });
    }

    test("I8: a partition is read only under its lease; another channel goes on, and this one when the lease is free", async () => {
      const { a, b } = await open();
      const lease = (expires: string) =>
        b.sql.unsafe(`INSERT INTO replicator.lease (kind, name, owner, term, expires_at)
          SELECT 'feed', 'replicator.${a.name}.changes/0', 'somebody else', 7, ${expires}
          ON CONFLICT (kind, name) DO UPDATE SET owner = excluded.owner, term = lease.term + 1, expires_at = excluded.expires_at`);
      await lease("now() + interval '1 h'");
      await a.start("publisher");
      await b.start("consumer");
      await write(a, 1);
      await untilEqual([a, b], { events: "id" });
      expect((await b.sql`SELECT count(*)::int AS n FROM users`)[0]?.n).toBe(0);
      await lease("'-infinity'");
      await untilEqual([a, b], TABLES);

      // Taken away in the middle: what was read on the old lease is not applied.
      await lease("now() + interval '1 h'");
      const before = await b.sql`SELECT count(*)::int AS n FROM users`;
      await write(a, 2);
      await untilEqual([a, b], { events: "id" });
      expect((await b.sql`SELECT count(*)::int AS n FROM users`)[0]?.n).toBe(before[0]?.n);
      await lease("'-infinity'");
      await untilEqual([a, b], TABLES);
      await expectAppliedOnce(b);
    });
  });
}

/** Small transactions, so that there are many messages in both channels. */
async function write(contour: Contour, round: number): Promise<void> {
  for (let n = 0; n < 12; n++) {
    const id = round * 1_000 + n;
    await contour.sql`INSERT INTO users (id, name) VALUES (${id}, ${`round ${round}`})`;
    await contour.sql`INSERT INTO events (id, v) VALUES (${id}, ${`round ${round}`})`;
  }
}

async function untilPublished(contour: Contour): Promise<void> {
  await until("all is published", async () => {
    const [row] = await contour.sql`SELECT count(*)::int AS n FROM replication_queue WHERE published = FALSE`;
    return row?.n === 0 || row;
  });
}

async function expectAppliedOnce(contour: Contour): Promise<void> {
  const [events] = await contour.sql`SELECT count(*)::int AS n FROM
    (SELECT event_id FROM processed_events GROUP BY event_id HAVING count(*) > 1) d`;
  expect(events?.n).toBe(0);
  const [parked] = await contour.sql`SELECT count(*)::int AS n FROM inbox`;
  expect(parked?.n).toBe(0);
}

function groupOf(broker: BrokerKind, source: Contour, reader: Contour): Promise<GroupHand> {
  return broker === "kafka" ? kafkaGroups(source, reader) : natsDurables(source, reader);
}

async function kafkaGroups(source: Contour, reader: Contour): Promise<GroupHand> {
  const { bootstrap } = await sharedKafka();
  const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING });
  const base = `replicator-consumer-${reader.name}.`;
  const topics = [`replicator.${source.name}.changes`, String(source.tables.find(({ topic }) => topic)?.topic)];
  const withAdmin = async (work: (admin: ReturnType<Kafka["admin"]>) => Promise<void>) => {
    const admin = kafka.admin();
    await admin.connect();
    try {
      await work(admin);
    } finally {
      await admin.disconnect();
    }
  };
  /** Commits as a member, with the metadata that was there: a position that is wrong and looks right. */
  const move = (place: "high" | "low") =>
    withAdmin(async (admin) => {
      for (const topic of topics) {
        const groupId = base + topic;
        const [before] = await admin.fetchOffsets({ groupId, topics: [topic] });
        const bounds = await admin.fetchTopicOffsets(topic);
        const consumer = kafka.consumer({ groupId });
        await consumer.connect();
        await consumer.subscribe({ topics: [topic] });
        const joined = new Promise<void>((resolve) => consumer.on(consumer.events.GROUP_JOIN, () => resolve()));
        await consumer.run({ autoCommit: false, eachMessage: async () => undefined });
        await joined;
        await consumer.commitOffsets(
          bounds.map((bound) => ({
            topic,
            partition: bound.partition,
            offset: bound[place],
            metadata: before?.partitions.find(({ partition }) => partition === bound.partition)?.metadata ?? null,
          })),
        );
        await consumer.disconnect();
      }
    });
  return {
    lose: () => withAdmin(async (admin) => void (await admin.deleteGroups(topics.map((topic) => base + topic)))),
    skip: () => move("high"),
    rewind: () => move("low"),
  };
}

async function natsDurables(source: Contour, _reader: Contour): Promise<GroupHand> {
  const stream = `replicator_${source.name}`;
  const each = async (place: DeliverPolicy | null) => {
    const nc = await connect({ servers: (await sharedNats()).url });
    try {
      const manager = await jetstreamManager(nc);
      const durables = await manager.consumers.list(stream).next();
      expect(durables.length).toBe(2);
      for (const { name, config } of durables) {
        await manager.consumers.delete(stream, name);
        if (place === null) continue;
        const { durable_name, filter_subject, metadata } = config;
        await manager.consumers.add(stream, {
          ...(durable_name === undefined ? {} : { durable_name }),
          ...(filter_subject === undefined ? {} : { filter_subject }),
          ...(metadata === undefined ? {} : { metadata }),
          ack_policy: AckPolicy.All,
          deliver_policy: place,
        });
      }
    } finally {
      await nc.close();
    }
  };
  return {
    lose: () => each(null),
    skip: () => each(DeliverPolicy.New),
    rewind: () => each(DeliverPolicy.All),
  };
}
