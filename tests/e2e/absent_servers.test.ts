/** A broker or a database that cannot be reached: waited for, and said once (interface §1). */
import { afterEach, expect, test } from "bun:test";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type BrokerConfig, Contour, type Replicator } from "./harness.ts";
import { BROKERS, brokerConfig, ownBroker } from "./pair.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** Nobody listens there. */
const NOWHERE = "127.0.0.1:9";

describeWith(["kafka", "nats", "postgres"], "a server that is not there", () => {
  /** Its lines about a server that does not answer, by level. */
  const lines = (replicator: Replicator, level: string) =>
    replicator
      .log()
      .split("\n")
      .filter(
        (line) => line.includes(`"level":"${level}"`) && /unreachable|timeout|does not answer|answers again/.test(line),
      );

  async function contour(broker: BrokerConfig): Promise<Contour> {
    const url = await freshDatabase(await sharedPostgres());
    const tables = [{ name: "users" }, { name: "orders", topic: `orders_${Date.now().toString(36)}` }];
    const made = new Contour({ name: "a", url, broker, from: ["b"], tables, extra: { log: { level: "debug" } } });
    closers.push(() => made.close());
    await made.sql.unsafe("CREATE TABLE users (id bigint PRIMARY KEY); CREATE TABLE orders (id bigint PRIMARY KEY)");
    await made.prepare();
    return made;
  }

  async function saidOnce(replicator: Replicator, server: string): Promise<void> {
    await until("/ready gives the reason", async () => {
      const answer = await replicator.get("/ready").catch(() => null);
      return (answer?.status === 503 && JSON.stringify(answer.body).toLowerCase().includes(server)) || answer;
    });
    expect((await replicator.get("/health")).body).toEqual({ status: "ok" });
    // Probe, publisher and consumer have all found out.
    await until("others have noticed it", () => lines(replicator, "debug").length >= 2 || replicator.log());
    expect([await replicator.stop(), lines(replicator, "warn").length]).toEqual([0, 1]);
  }

  const absent: Record<string, BrokerConfig> = {
    nats: { broker: "nats", nats: { servers: [`nats://${NOWHERE}`], replicas: 1 } },
    kafka: { broker: "kafka", kafka: { brokers: [NOWHERE] } },
  };
  for (const [kind, broker] of Object.entries(absent)) {
    test(`${kind} is waited for, said once and on /ready`, async () => {
      const replicator = await (await contour(broker)).start("all", false);
      await saidOnce(replicator, "broker");
      expect(lines(replicator, "warn")[0]).toContain(NOWHERE);
    });
  }

  test("the database is waited for, said once and on /ready", async () => {
    const made = await contour(await brokerConfig("nats"));
    made.reconfigure((config) => {
      config.database = { url: `postgres://postgres:secret@${NOWHERE}/app` };
    });
    await saidOnce(await made.start("all", false), "database");
  });

  for (const kind of BROKERS) {
    test(`${kind} that goes away and comes back is said once each time`, async () => {
      const own = await ownBroker(kind);
      closers.push(() => own.close());
      const made = await contour(own.config);
      const replicator = await made.start();
      const warned = () => lines(replicator, "warn").length;
      for (let outage = 1; outage <= 2; outage++) {
        await made.sql`INSERT INTO users VALUES (${outage})`;
        await until(
          "it is published",
          async () => (await made.sql`SELECT FROM replication_queue WHERE NOT published`).length === 0,
        );
        // What was said while Kafka made its first topics is over.
        await until("it answers", () => lines(replicator, "info").length === warned() || replicator.log());
        const [before, noticed] = [warned(), lines(replicator, "debug").length];
        await own.stop();
        await made.sql`INSERT INTO users VALUES (${-outage})`;
        await until("all have noticed it", () => lines(replicator, "debug").length >= noticed + 2 || replicator.log());
        expect(warned() - before).toBe(1);
        await own.start();
        await until("it answers again", async () => (await replicator.get("/ready")).status === 200);
      }
    });
  }
});
