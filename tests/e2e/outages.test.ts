/** Broker, source or target away: the application goes on, nothing is lost, everything arrives afterwards (I1 I5 I8). */
import { afterEach, expect, test } from "bun:test";
import { startKafka } from "../servers/kafka.ts";
import { startNats } from "../servers/nats.ts";
import { type PostgresServer, startPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type BrokerConfig, untilEqual } from "./harness.ts";
import { startLoad } from "./load.ts";
import { BROKERS, openPair } from "./pair.ts";

const DDL = "CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);";

interface BrokerServer {
  readonly config: BrokerConfig;
  stop(): Promise<void>;
  start(): Promise<void>;
}

async function ownBroker(kind: (typeof BROKERS)[number], closers: (() => Promise<void>)[]): Promise<BrokerServer> {
  if (kind === "nats") {
    const nats = await startNats({});
    closers.push(() => nats.stop());
    return {
      config: { broker: "nats", nats: { servers: [nats.url], replicas: 1 } },
      stop: () => nats.stop(),
      start: () => nats.start(),
    };
  }
  const kafka = await startKafka({});
  closers.push(() => kafka.stop());
  return {
    config: {
      broker: "kafka",
      kafka: { brokers: [kafka.bootstrap], topic: { replication_factor: 1, min_insync_replicas: 1 } },
    },
    stop: () => kafka.stop(),
    start: () => kafka.start(),
  };
}

for (const kind of BROKERS) {
  describeWith([kind, "postgres"], `outages over ${kind}`, () => {
    const closers: (() => Promise<void>)[] = [];
    afterEach(async () => {
      for (const close of closers.splice(0).reverse()) await close();
    });

    test("broker, target and source go away and come back: the application goes on and everything arrives", async () => {
      const broker = await ownBroker(kind, closers);
      const servers: PostgresServer[] = [await startPostgres({}), await startPostgres({})];
      for (const server of servers) closers.push(() => server.stop());
      const [source, target] = servers as [PostgresServer, PostgresServer];
      const urls = [await source.createDatabase(), await target.createDatabase()] as const;
      const pair = await openPair({ broker: broker.config, ddl: DDL, tables: [{ name: "users" }], urls });
      closers.push(() => pair.close());
      const { a, b } = pair;
      await a.start("publisher");
      const consumer = await b.start("consumer");
      const unpublished = async () =>
        Number((await a.sql`SELECT count(*)::int AS n FROM replication_queue WHERE published = FALSE`)[0]?.n);

      // The broker.
      await a.sql`INSERT INTO users (id, name) SELECT g, 'before' FROM generate_series(1, 100) g`;
      await untilEqual([a, b], { users: "id" });
      await broker.stop();
      await a.sql`INSERT INTO users (id, name) SELECT g, 'broker away' FROM generate_series(101, 300) g`;
      await until("the backlog shows", async () => (await unpublished()) === 200);
      await until("the consumer says that it waits", async () => (await consumer.get("/ready")).status === 503);
      await broker.start();
      await untilEqual([a, b], { users: "id" });
      await until("the backlog is gone", async () => (await unpublished()) === 0);

      // The target.
      await target.stop("fast");
      await a.sql`INSERT INTO users (id, name) SELECT g, 'target away' FROM generate_series(301, 600) g`;
      await until("the broker has taken them", async () => (await unpublished()) === 0);
      await target.start();
      await untilEqual([a, b], { users: "id" });

      // The source, killed under load.
      const load = startLoad(a.sql, { firstId: 1_000, limit: 100_000 });
      await until("the load runs", () => load.committed() > 50);
      await source.stop("kill");
      await source.start();
      const before = load.committed();
      await until("the application writes again", () => load.committed() > before + 50);
      await load.stop();
      await untilEqual([a, b], { users: "id" });
    });

    test("I13: asynchronous commits and a crash of the source right after: the target never has a row the source has lost", async () => {
      const broker = await ownBroker(kind, closers);
      const source = await startPostgres({ settings: { synchronous_commit: "off", wal_writer_delay: "10s" } });
      const target = await startPostgres({});
      for (const server of [source, target]) closers.push(() => server.stop());
      const urls = [await source.createDatabase(), await target.createDatabase()] as const;
      const pair = await openPair({ broker: broker.config, ddl: DDL, tables: [{ name: "users" }], urls });
      closers.push(() => pair.close());
      const { a, b } = pair;
      await a.start("publisher");
      await b.start("consumer");
      for (let round = 0; round < 3; round++) {
        const load = startLoad(a.sql, { firstId: round * 1_000_000 + 1, limit: 500_000 });
        await until("rows arrive", async () => {
          const [row] = await b.sql`SELECT count(*)::int AS n FROM users WHERE id > ${round * 1_000_000}`;
          return row?.n > 30;
        });
        await source.stop("kill");
        await load.stop();
        await source.start();
        await untilEqual([a, b], { users: "id" });
      }
    });

    test("I2: a transaction that began first and commits last is not missed; one open in another database delays nobody", async () => {
      const broker = await ownBroker(kind, closers);
      const server = await startPostgres({});
      closers.push(() => server.stop());
      const urls = [await server.createDatabase(), await server.createDatabase()] as const;
      const pair = await openPair({ broker: broker.config, ddl: DDL, tables: [{ name: "users" }], urls });
      closers.push(() => pair.close());
      const { a, b } = pair;
      await a.start("publisher");
      await b.start("consumer");
      const postgres = (await import("postgres")).default;
      const elsewhere = postgres(await server.createDatabase(), { max: 1 });
      const open = await elsewhere.reserve();
      await open`BEGIN`;
      await open`CREATE TABLE held (id int)`;
      const late = await a.sql.reserve();
      await late`BEGIN`;
      await late`INSERT INTO users (id, name) VALUES (1, 'late')`;
      for (let id = 2; id < 30; id++) await a.sql`INSERT INTO users (id, name) VALUES (${id}, 'early')`;
      await until("the others arrive", async () => (await b.sql`SELECT count(*)::int AS n FROM users`)[0]?.n === 28);
      await late`COMMIT`;
      late.release();
      await untilEqual([a, b], { users: "id" });
      expect((await b.sql`SELECT name FROM users WHERE id = 1`)[0]?.name).toBe("late");
      await open`ROLLBACK`;
      open.release();
      await elsewhere.end({ timeout: 1 });
    });
  });
}
