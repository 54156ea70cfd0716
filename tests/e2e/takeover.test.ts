/** Several processes of each role share the work; one of them dies; the others take over (I8). */
import { afterEach, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { untilEqual } from "./harness.ts";
import { startLoad } from "./load.ts";
import { BROKERS, openPair, type Pair } from "./pair.ts";

const DDL = `
CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);
CREATE TABLE events (id bigint PRIMARY KEY, v text);
`;

for (const broker of BROKERS) {
  describeWith([broker, "postgres"], `takeover over ${broker}`, () => {
    let pair: Pair | undefined;
    afterEach(() => pair?.close());

    test("I8: two publishers and two consumers, one of each killed under load: no change lost or doubled, the other goes on within 10 s", async () => {
      pair = await openPair({
        broker,
        ddl: DDL,
        tables: [{ name: "users" }, { name: "events", topic: "events_changes" }],
        kafkaTopic: { partitions: 2 },
      });
      const { a, b } = pair;
      const publishers = [await a.start("publisher"), await a.start("publisher")] as const;
      const consumers = [await b.start("consumer"), await b.start("consumer")] as const;
      const load = startLoad(a.sql, { firstId: 1, limit: 200_000 });
      await until("changes flow", async () => (await b.sql`SELECT count(*)::int AS n FROM users`)[0]?.n > 50);
      const seen = async () => Number((await b.sql`SELECT coalesce(max(id), 0)::int AS n FROM users`)[0]?.n);
      for (const [victim] of [publishers, consumers]) {
        // The first of each was there first and has the leases.
        await victim.kill();
        const killedAt = performance.now();
        const before = await seen();
        const committed = load.committed();
        await until(
          "changes committed after the kill arrive",
          async () => {
            const now = await seen();
            return (now > before && now > committed) || { now, before, committed };
          },
          15_000,
        );
        expect(performance.now() - killedAt).toBeLessThan(12_000);
        await a.sql`INSERT INTO events (id, v) SELECT g, 'v' FROM generate_series(${Math.floor(killedAt)}::int, ${Math.floor(killedAt)}::int + 99) g`;
      }
      await load.stop();
      await untilEqual([a, b], { users: "id", events: "id" });
      const [twice] = await b.sql`SELECT count(*)::int AS n FROM
        (SELECT event_id FROM processed_events GROUP BY event_id HAVING count(*) > 1) d`;
      expect(twice?.n).toBe(0);
    });

    test("a stopped replicator finishes, logs its totals and ends with 0", async () => {
      pair = await openPair({ broker, ddl: DDL, tables: [{ name: "users" }] });
      const { a, b } = pair;
      const [publisher, consumer] = [await a.start("publisher"), await b.start("consumer")];
      await a.sql`INSERT INTO users (id, name) SELECT g, 'v' FROM generate_series(1, 500) g`;
      await untilEqual([a, b], { users: "id" });
      expect(await publisher.stop()).toBe(0);
      expect(await consumer.stop()).toBe(0);
      expect(publisher.log()).toContain("total");
      expect(consumer.log()).toContain("total");
    });
  });
}
