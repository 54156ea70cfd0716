/** A network that swallows the packets between a replicator and its database, and tells neither side (I8). */
import { afterEach, expect, test } from "bun:test";
import { type SilentProxy, silentProxy } from "../servers/silent_proxy.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { Contour, type Replicator, untilEqual } from "./harness.ts";
import { startLoad } from "./load.ts";
import { BROKERS, brokerConfig, openPair, type Pair } from "./pair.ts";

const DDL = `
CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);
CREATE TABLE events (id bigint PRIMARY KEY, v text);
`;
const TABLES = [{ name: "users" }, { name: "events", topic: "events_changes" }];
/** From the moment the network carries packets again until everything has arrived and all are ready. */
const RECOVERY_MS = 30_000;
/** From the moment the network swallows one process until what is written then arrives through the other. */
const TAKEOVER_MS = 10_000;

for (const kind of BROKERS) {
  describeWith([kind, "postgres"], `a silent network with ${kind}`, () => {
    const closers: (() => Promise<unknown>)[] = [];
    afterEach(async () => {
      for (const close of closers.splice(0).reverse()) await close();
    });

    async function open(): Promise<Pair> {
      const pair = await openPair({ broker: kind, ddl: DDL, tables: TABLES });
      closers.push(() => pair.close());
      return pair;
    }

    /** A replicator of the contour that reaches its database through a proxy of its own. */
    async function behindProxy(contour: Contour, other: Contour, role: string): Promise<[SilentProxy, Replicator]> {
      const { hostname, port } = new URL(contour.url);
      const proxy = await silentProxy({ host: hostname, port: Number(port) });
      closers.push(() => proxy.close());
      const twin = new Contour({
        name: contour.name,
        url: contour.url,
        configUrl: proxy.through(contour.url),
        broker: await brokerConfig(kind),
        from: [other.name],
        tables: contour.tables,
      });
      closers.push(() => twin.close());
      return [proxy, await twin.start(role)];
    }

    for (const how of ["for a moment", "until everybody has noticed"] as const) {
      test(`cut ${how} and restored: publisher and consumer replicate again within 30 s`, async () => {
        const { a, b } = await open();
        const [nearA, publisher] = await behindProxy(a, b, "publisher");
        const [nearB, consumer] = await behindProxy(b, a, "consumer");
        const load = startLoad(a.sql, { firstId: 1, limit: 400_000 });
        closers.push(() => load.stop());
        await until("changes flow", async () => (await b.sql`SELECT count(*)::int AS n FROM users`)[0]?.n > 50);
        for (const proxy of [nearA, nearB]) proxy.swallow();
        if (how === "until everybody has noticed") {
          for (const replicator of [publisher, consumer]) await untilReady(replicator, false);
        }
        for (const proxy of [nearA, nearB]) proxy.restore();
        const restored = performance.now();
        await a.sql`INSERT INTO users (id, name) VALUES (1000000, 'after')`;
        await a.sql`INSERT INTO events (id, v) VALUES (1, 'after')`;
        await until(
          "what is written afterwards arrives",
          async () => {
            const [row] = await b.sql`SELECT (SELECT count(*) FROM users WHERE id = 1000000)::int AS users,
              (SELECT count(*) FROM events)::int AS events`;
            return (row?.users === 1 && row?.events === 1) || row;
          },
          2 * RECOVERY_MS,
        );
        for (const replicator of [publisher, consumer]) await untilReady(replicator, true);
        const took = performance.now() - restored;
        console.info(`${kind}: replicating again ${(took / 1_000).toFixed(1)} s after the network was restored`);
        await load.stop();
        await untilEqual([a, b], { users: "id", events: "id" });
        expect(took).toBeLessThan(RECOVERY_MS);
      });
    }

    for (const role of ["publisher", "consumer"] as const) {
      test(`I8: a ${role} that has lost its database, not the broker, is replaced by another within 10 s, and replaces it later`, async () => {
        const { a, b } = await open();
        const [self, other] = role === "publisher" ? [a, b] : [b, a];
        const members = [await behindProxy(self, other, role), await behindProxy(self, other, role)] as const;
        await other.start(role === "publisher" ? "consumer" : "publisher");
        const leases = role === "publisher" ? "channel" : "feed";
        /** Of the two members the one that holds a lease, first. */
        const inOrder = async () => {
          const held = await self.sql`SELECT name FROM replicator.lease
            WHERE kind = ${leases} AND expires_at > now() AND owner LIKE ${`%:${members[0][1].pid}:%`}`;
          return held.length > 0 ? members : ([members[1], members[0]] as const);
        };
        const load = startLoad(a.sql, { firstId: 1, limit: 400_000 });
        closers.push(() => load.stop());
        await until("changes flow", async () => (await b.sql`SELECT count(*)::int AS n FROM users`)[0]?.n > 50);
        const [[proxy, victim], [, heir]] = await inOrder();
        proxy.swallow();
        await arrivesWithin(a, b, 1_000_000, TAKEOVER_MS, `${kind}: taken over from a ${role} without its database`);
        await untilReady(victim, false);
        proxy.restore();
        await untilReady(victim, true);
        await heir.kill();
        await arrivesWithin(a, b, 2_000_000, 2 * TAKEOVER_MS, `${kind}: taken over by a ${role} that was cut off`);
        await load.stop();
        await untilEqual([a, b], { users: "id", events: "id" });
        const [twice] = await b.sql`SELECT count(*)::int AS n FROM
          (SELECT event_id FROM processed_events GROUP BY event_id HAVING count(*) > 1) d`;
        expect(twice?.n).toBe(0);
      });
    }
  });
}

/** Writes to both channels and waits for it. */
async function arrivesWithin(a: Contour, b: Contour, id: number, ms: number, what: string): Promise<void> {
  const began = performance.now();
  await a.sql`INSERT INTO users (id, name) VALUES (${id}, 'after')`;
  await a.sql`INSERT INTO events (id, v) VALUES (${id}, 'after')`;
  await until(
    "what is written afterwards arrives",
    async () => {
      const [row] = await b.sql`SELECT (SELECT count(*) FROM users WHERE id = ${id})::int AS users,
        (SELECT count(*) FROM events WHERE id = ${id})::int AS events`;
      return (row?.users === 1 && row?.events === 1) || row;
    },
    60_000,
  );
  const took = performance.now() - began;
  console.info(`${what} in ${(took / 1_000).toFixed(1)} s`);
  expect(took).toBeLessThan(ms);
}

async function untilReady(replicator: Replicator, ready: boolean): Promise<void> {
  await until(`/ready says ${ready ? "yes" : "no"}`, async () => {
    const { status, body } = await replicator.get("/ready").catch(() => ({ status: 0, body: {} }));
    return status === (ready ? 200 : 503) || body;
  });
}
