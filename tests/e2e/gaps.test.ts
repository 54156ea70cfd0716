/** Messages that are gone before they were applied: their channel stops and says so, nothing is skipped, the others go on (I5). */
import { afterEach, expect, test } from "bun:test";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { Kafka, logLevel } from "kafkajs";
import { sharedKafka } from "../servers/kafka.ts";
import { sharedNats } from "../servers/nats.ts";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { Contour, type Replicator, untilEqual } from "./harness.ts";
import { BROKERS, type BrokerKind, brokerConfig, openPair } from "./pair.ts";

const DDL = `
CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);
CREATE TABLE events (id bigint PRIMARY KEY, v text);
`;

for (const broker of BROKERS) {
  describeWith([broker, "postgres"], `gaps over ${broker}`, () => {
    const closers: (() => Promise<unknown>)[] = [];
    afterEach(async () => {
      for (const close of closers.splice(0).reverse()) await close();
    });

    test("I5: messages deleted before they were applied stop their channel, which says so; another channel goes on", async () => {
      const tables = [{ name: "users" }, { name: "events", topic: "events_changes" }];
      const { a, b, close } = await openPair({ broker, ddl: DDL, tables });
      closers.push(close);
      await a.start("publisher");
      const first = await b.start("consumer");
      await write(a, 1);
      await untilEqual([a, b], { users: "id", events: "id" });
      expect(await first.stop()).toBe(0);
      // Published one after the other: more than one message in each channel.
      for (const round of [2, 3]) {
        await write(a, round);
        await untilPublished(a);
      }
      const applied = Number(
        (
          await b.sql`SELECT max(applied.sequence) AS n FROM replicator.applied JOIN replicator.ledger USING (ledger_id)
        WHERE channel = 'changes'`
        )[0]?.n,
      );
      await deleteMessages(broker, `replicator_${a.name}`, `replicator.${a.name}.changes`);

      const consumer = await b.start("consumer", false);
      await untilStopped(consumer, a, `Sequence ${applied + 1} of channel ${a.name}/changes (partition 0) is missing`);
      await a.sql`INSERT INTO events (id, v) VALUES (77, 'after')`;
      await untilEqual([a, b], { events: "id" });
      expect((await b.sql`SELECT count(*)::int AS n FROM users WHERE id >= 3000`)[0]?.n).toBe(0);
      expect(await consumer.stop()).toBe(0);
    });

    if (broker === "kafka") {
      test("I5: on a topic shared by contours the one with the gap stops, the other one goes on", async () => {
        const id = crypto.randomUUID().slice(0, 8);
        const tables = [{ name: "events", topic: `shared_${id}` }];
        const server = await sharedPostgres();
        const names = [`a-${id}`, `b-${id}`, `c-${id}`] as const;
        const contours: Contour[] = [];
        for (const name of names) {
          const from = name === names[2] ? [names[0], names[1]] : [names[2]];
          const config = await brokerConfig(broker);
          const contour = new Contour({ name, url: await freshDatabase(server), broker: config, from, tables });
          closers.push(() => contour.close());
          await contour.sql.unsafe(DDL);
          await contour.prepare();
          contours.push(contour);
        }
        const [a, b, c] = contours as [Contour, Contour, Contour];
        await a.start("publisher");
        await b.start("publisher");
        const first = await c.start("consumer");
        const arrived = (where: string) => async () => {
          const [row] = await c.sql.unsafe(`SELECT count(*)::int AS n FROM events WHERE ${where}`);
          return Number(row?.n);
        };
        await a.sql`INSERT INTO events (id, v) VALUES (1, 'a')`;
        await b.sql`INSERT INTO events (id, v) VALUES (2, 'b')`;
        await until("both arrive", async () => (await arrived("true")()) === 2);
        expect(await first.stop()).toBe(0);
        await a.sql`INSERT INTO events (id, v) VALUES (3, 'gone')`;
        await untilPublished(a);
        await deleteMessages(broker, "", `shared_${id}`, true);
        await a.sql`INSERT INTO events (id, v) VALUES (5, 'a')`;
        await b.sql`INSERT INTO events (id, v) VALUES (6, 'b')`;
        const consumer = await c.start("consumer", false);
        await untilStopped(consumer, a, `Sequence 2 of channel ${a.name}/shared_${id} (partition 0) is missing`);
        for (let n = 10; n < 20; n++) {
          const written = performance.now();
          await b.sql`INSERT INTO events (id, v) VALUES (${n}, 'b')`;
          await until("it arrives", async () => (await arrived(`id = ${n}`)()) === 1);
          expect(performance.now() - written).toBeLessThan(5_000);
        }
        expect(await arrived("v = 'a'")()).toBe(1);
      });
    }
  });
}

async function write(contour: Contour, round: number): Promise<void> {
  for (let n = 0; n < 8; n++) {
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

/** Deletes what a feed holds, but for its last message (or that too). */
async function deleteMessages(broker: BrokerKind, stream: string, feed: string, all = false): Promise<void> {
  if (broker === "nats") {
    const nc = await connect({ servers: (await sharedNats()).url });
    await (await jetstreamManager(nc)).streams.purge(stream, { filter: feed, keep: all ? 0 : 1 });
    await nc.close();
    return;
  }
  const kafka = new Kafka({ brokers: [(await sharedKafka()).bootstrap], logLevel: logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  const offsets = await admin.fetchTopicOffsets(feed);
  await admin.deleteTopicRecords({
    topic: feed,
    partitions: offsets.map(({ partition, high }) => ({ partition, offset: String(BigInt(high) - (all ? 0n : 1n)) })),
  });
  await admin.disconnect();
}

/** In the log with its remedy, on /ready and on /status. */
async function untilStopped(consumer: Replicator, source: Contour, said: string): Promise<void> {
  await until("/ready says which channel stopped and where", async () => {
    const { status, body } = await consumer.get("/ready").catch(() => ({ status: 0, body: { reasons: [] } }));
    return (status === 503 && JSON.stringify(body.reasons).includes(said)) || body;
  });
  expect(consumer.log()).toContain(said);
  expect(consumer.log()).toContain("copy the tables afresh");
  const { body } = await consumer.get("/status");
  const channels = body.channels as { channel: string; trouble: string | null }[];
  const troubles = channels.filter(({ trouble }) => trouble !== null);
  expect(troubles.length).toBe(1);
  expect(troubles[0]?.channel.startsWith(`${source.name}/`)).toBe(true);
  expect(troubles[0]?.trouble).toContain(said);
}
