/** Broker, source or target away: the application goes on, nothing is lost, everything arrives afterwards (I1 I5 I8). */
import { afterEach, expect, test } from "bun:test";
import postgres from "postgres";
import { startPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type Contour, type Replicator, untilEqual } from "./harness.ts";
import { type Load, startLoad } from "./load.ts";
import { BROKERS, openPair, ownBroker } from "./pair.ts";

const DDL = "CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);";
/** From the moment a server answers again until everything has arrived and new changes arrive at once. */
const RECOVERY_MS = 30_000;

for (const kind of BROKERS) {
  describeWith([kind, "postgres"], `outages over ${kind}`, () => {
    const closers: (() => Promise<unknown>)[] = [];
    afterEach(async () => {
      for (const close of closers.splice(0).reverse()) await close();
    });

    /** Everything of its own, so that everything can be stopped. */
    async function open(settings: Record<string, string> = {}) {
      const broker = await ownBroker(kind);
      closers.push(() => broker.close());
      const [source, target] = [await startPostgres({ settings }), await startPostgres()];
      closers.push(
        () => source.close(),
        () => target.close(),
      );
      const urls = [await source.createDatabase(), await target.createDatabase()] as const;
      const { a, b, close } = await openPair({ broker: broker.config, ddl: DDL, tables: [{ name: "users" }], urls });
      closers.push(close);
      const [publisher, consumer] = [await a.start("publisher"), await b.start("consumer")];
      return { broker, source, target, a, b, publisher, consumer };
    }

    function loadOn(contour: Contour, firstId: number): Load {
      const load = startLoad(contour.sql, { firstId, limit: 400_000 });
      closers.push(() => load.stop());
      return load;
    }

    test("I5: broker, target and source go away and come back: the application goes on and everything arrives", async () => {
      const { broker, source, target, a, b, publisher, consumer } = await open();
      await a.sql`INSERT INTO users (id, name) SELECT g, 'before' FROM generate_series(1, 100) g`;
      await untilEqual([a, b], { users: "id" });

      await broker.stop();
      await a.sql`INSERT INTO users (id, name) SELECT g, 'broker away' FROM generate_series(101, 300) g`;
      await until("the backlog shows", async () => (await unpublished(a)) === 200);
      for (const replicator of [publisher, consumer]) await untilNotReady(replicator, `broker (${kind})`);
      await broker.start();
      await untilRecovered([a, b], [publisher, consumer]);
      expect(await unpublished(a)).toBe(0);

      await target.stop("kill");
      await a.sql`INSERT INTO users (id, name) SELECT g, 'target away' FROM generate_series(301, 600) g`;
      await until("the broker has taken them", async () => (await unpublished(a)) === 0);
      await untilNotReady(consumer, "target database");
      expect((await publisher.get("/ready")).status).toBe(200);
      await target.start();
      await untilRecovered([a, b], [publisher, consumer]);

      for (const how of ["kill", "fast"] as const) {
        const load = loadOn(a, how === "kill" ? 1_000 : 500_000);
        await until("the load runs", () => load.committed() > 50);
        await source.stop(how);
        await untilNotReady(publisher, "database");
        await source.start();
        const before = load.committed();
        await until("the application writes again", () => load.committed() > before + 50);
        await load.stop();
        await untilRecovered([a, b], [publisher, consumer]);
      }
      for (const replicator of [publisher, consumer]) expect(await replicator.stop()).toBe(0);
    });

    test("I5: servers that freeze under load and go on again lose nothing", async () => {
      const { broker, source, target, a, b, publisher, consumer } = await open();
      const load = loadOn(a, 1);
      await until("the load runs", () => load.committed() > 50);
      for (const [server, whom, name] of [
        [broker, publisher, `broker (${kind})`],
        [target, consumer, "target database"],
        [source, publisher, "database"],
      ] as const) {
        server.pause();
        await untilNotReady(whom, name);
        server.unpause();
        const before = load.committed();
        await until("the application writes", () => load.committed() > before + 50);
        await untilReady(whom);
      }
      await load.stop();
      await untilRecovered([a, b], [publisher, consumer]);
    });

    test("I13: asynchronous commits and a crash of the source right after: the target never has a row the source has lost", async () => {
      const { source, a, b } = await open({ synchronous_commit: "off", wal_writer_delay: "10s" });
      for (let round = 0; round < 4; round++) {
        const first = round * 1_000_000;
        const load = loadOn(a, first + 1);
        await until("rows arrive", async () => {
          const [row] = await b.sql`SELECT count(*)::int AS n FROM users WHERE id > ${first}`;
          return row?.n > 30;
        });
        await source.stop("kill");
        await load.stop();
        await source.start();
        const lost = await b.sql`SELECT coalesce(max(id), 0)::int AS last FROM users WHERE id > ${first}`;
        const [kept] = await a.sql`SELECT coalesce(max(id), 0)::int AS last FROM users WHERE id > ${first}`;
        expect(lost[0]?.last).toBeLessThanOrEqual(kept?.last);
        await untilEqual([a, b], { users: "id" });
      }
    });

    test("I2: a transaction that began first and commits last is not missed; one open in another database delays nobody", async () => {
      const { source, a, b } = await open();
      const elsewhere = postgres(await source.createDatabase(), { max: 1, onnotice: () => undefined });
      closers.push(() => elsewhere.end({ timeout: 1 }));
      const held = await elsewhere.reserve();
      await held`BEGIN`;
      await held`CREATE TABLE held (id int)`;
      const late = await a.sql.reserve();
      await late`BEGIN`;
      await late`INSERT INTO users (id, name) VALUES (1, 'late')`;
      for (let id = 2; id < 30; id++) await a.sql`INSERT INTO users (id, name) VALUES (${id}, 'early')`;
      await until("the others arrive", async () => (await b.sql`SELECT count(*)::int AS n FROM users`)[0]?.n === 28);
      await late`COMMIT`;
      late.release();
      await untilEqual([a, b], { users: "id" });
      expect((await b.sql`SELECT name FROM users WHERE id = 1`)[0]?.name).toBe("late");
      await held`ROLLBACK`;
      held.release();
    });
  });
}

async function unpublished(contour: Contour): Promise<number> {
  const [row] = await contour.sql`SELECT count(*)::int AS n FROM replication_queue WHERE published = FALSE`;
  return Number(row?.n);
}

async function untilNotReady(replicator: Replicator, server: string): Promise<void> {
  await until(`/ready names the ${server}`, async () => {
    const { status, body } = await replicator.get("/ready");
    const reasons = Array.isArray(body.reasons) ? body.reasons.map(String) : [];
    return (status === 503 && reasons.some((reason) => reason.startsWith(`${server}: `))) || body;
  });
}

async function untilReady(replicator: Replicator): Promise<void> {
  await until(
    "/ready says yes",
    async () => {
      const { status, body } = await replicator.get("/ready");
      return status === 200 || body;
    },
    RECOVERY_MS,
  );
}

/** All is there, everybody is ready, and what is written now arrives within a second. */
async function untilRecovered(contours: readonly [Contour, Contour], replicators: readonly Replicator[]) {
  const [source, target] = contours;
  const from = performance.now();
  await untilEqual(contours, { users: "id" }, RECOVERY_MS);
  for (const replicator of replicators) await untilReady(replicator);
  await until(
    "a change arrives within a second",
    async () => {
      const written = performance.now();
      const [row] = await source.sql`INSERT INTO users (id) SELECT coalesce(min(id), 0) - 1 FROM users RETURNING id`;
      const id = String(row?.id);
      await until("it arrives", async () => (await target.sql`SELECT FROM users WHERE id = ${id}`).length === 1);
      const took = performance.now() - written;
      return took < 1_000 || took;
    },
    RECOVERY_MS,
  );
  expect(performance.now() - from).toBeLessThan(RECOVERY_MS);
}
