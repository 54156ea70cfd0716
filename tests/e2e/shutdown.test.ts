/** The end of a process, whatever the state of its servers: finish, log the totals, exit 0 in time (interface §1). */
import { afterEach, expect, test } from "bun:test";
import { startPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type Replicator, untilEqual } from "./harness.ts";
import { startLoad } from "./load.ts";
import { BROKERS, openPair, ownBroker } from "./pair.ts";

const DDL = "CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);";
const SHUTDOWN_MS = 8_000;

for (const kind of BROKERS) {
  describeWith([kind, "postgres"], `shutdown over ${kind}`, () => {
    const closers: (() => Promise<unknown>)[] = [];
    afterEach(async () => {
      for (const close of closers.splice(0).reverse()) await close();
    });

    async function open() {
      const [broker, server] = [await ownBroker(kind), await startPostgres()];
      closers.push(
        () => broker.close(),
        () => server.close(),
      );
      const urls = [await server.createDatabase(), await server.createDatabase()] as const;
      const extra = { service: { shutdown_timeout: `${SHUTDOWN_MS}ms` } };
      const { a, b, close } = await openPair({
        broker: broker.config,
        ddl: DDL,
        tables: [{ name: "users" }],
        urls,
        extra,
      });
      closers.push(close);
      const replicators = [await a.start("publisher"), await b.start("consumer")] as const;
      await a.sql`INSERT INTO users (id, name) SELECT g, 'v' FROM generate_series(1, 500) g`;
      await untilEqual([a, b], { users: "id" });
      return { broker, server, a, b, replicators };
    }

    test("a stop under load finishes what is under way: nothing is sent or applied twice", async () => {
      const { a, b, replicators } = await open();
      const load = startLoad(a.sql, { firstId: 1_000, limit: 200_000 });
      closers.push(() => load.stop());
      for (const role of ["publisher", "consumer"] as const) {
        const before = load.committed();
        await until("the load runs", () => load.committed() > before + 100);
        expect(await endOf(replicators[role === "publisher" ? 0 : 1])).toBe(0);
        await (role === "publisher" ? a : b).start(role);
      }
      await load.stop();
      await untilEqual([a, b], { users: "id" });
      const [twice] = await b.sql`SELECT count(*)::int AS n FROM
        (SELECT event_id FROM processed_events GROUP BY event_id HAVING count(*) > 1) d`;
      expect(twice?.n).toBe(0);
    });

    for (const [how, act] of [
      ["away", "stop"],
      ["frozen", "pause"],
    ] as const) {
      test(`with the broker ${how} a stop logs the totals and ends with 0 in time`, async () => {
        const { broker, a, replicators } = await open();
        await broker[act]();
        await a.sql`INSERT INTO users (id, name) SELECT g, 'w' FROM generate_series(501, 900) g`;
        for (const replicator of replicators) await untilNotReady(replicator);
        for (const replicator of replicators) expect(await endOf(replicator)).toBe(0);
        broker.unpause();
      });

      test(`with the database ${how} a stop logs the totals and ends with 0 in time`, async () => {
        const { server, replicators } = await open();
        if (act === "stop") await server.stop("kill");
        else server.pause();
        for (const replicator of replicators) await untilNotReady(replicator);
        for (const replicator of replicators) expect(await endOf(replicator)).toBe(0);
        server.unpause();
        await server.start();
      });
    }

    test("started while broker and database are away a process waits, says so, and ends with 0 when asked", async () => {
      const { broker, server, a, b, replicators } = await open();
      for (const replicator of replicators) expect(await endOf(replicator)).toBe(0);
      await broker.stop();
      await server.stop();
      const waiting = [await a.start("publisher", false), await b.start("consumer", false)] as const;
      for (const replicator of waiting) await untilNotReady(replicator);
      for (const replicator of waiting) expect(await endOf(replicator)).toBe(0);
      const again = [await a.start("publisher", false), await b.start("consumer", false)] as const;
      for (const replicator of again) await untilNotReady(replicator);
      await server.start();
      await broker.start();
      await a.sql`INSERT INTO users (id, name) SELECT g, 'x' FROM generate_series(1001, 1100) g`;
      await untilEqual([a, b], { users: "id" });
      for (const replicator of again) await replicator.ready();
    });

    test("a second signal ends a process at once with 128 + its number", async () => {
      const { server, replicators } = await open();
      server.pause();
      for (const replicator of replicators) await untilNotReady(replicator);
      for (const replicator of replicators) {
        replicator.signal("SIGTERM");
        await until(
          "the stop has begun",
          () => replicator.log().includes("stopping: finishing") || replicator.log().slice(-300),
        );
        const asked = performance.now();
        replicator.signal("SIGTERM");
        expect(await replicator.exited()).toBe(143);
        expect(performance.now() - asked).toBeLessThan(1_000);
      }
      server.unpause();
    });
  });
}

/** SIGTERM, and what the log and the clock must say. */
async function endOf(replicator: Replicator): Promise<number> {
  const asked = performance.now();
  const code = await replicator.stop();
  expect(performance.now() - asked).toBeLessThan(SHUTDOWN_MS);
  expect(replicator.log()).toContain("total of changes published or applied");
  return code;
}

async function untilNotReady(replicator: Replicator): Promise<void> {
  await until("/ready says no", async () => {
    if (replicator.exitCode !== null) throw new Error(`It ended with ${replicator.exitCode}:\n${replicator.log()}`);
    const { status, body } = await replicator.get("/ready").catch(() => ({ status: 0, body: {} }));
    return status === 503 || { status, body };
  });
}
