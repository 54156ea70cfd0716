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
      try {
        await until("changes flow", async () => (await b.sql`SELECT count(*)::int AS n FROM users`)[0]?.n > 50);
        const victims = [
          { victim: publishers[0], owners: a.sql, kinds: ["cutter", "channel"] },
          { victim: consumers[0], owners: b.sql, kinds: ["feed"] },
        ];
        for (const [round, { victim, owners, kinds }] of victims.entries()) {
          const held = async () => {
            const rows = await owners`SELECT name FROM replicator.lease
              WHERE kind = ANY (${kinds}) AND expires_at > now() AND owner LIKE ${`%:${victim.pid}:%`}`;
            return rows.length;
          };
          await until("it holds leases", async () => (await held()) > 0);
          await victim.kill();
          const killedAt = performance.now();
          // Written after the kill, in every channel and partition.
          const id = 1_000_000 * (round + 1);
          await a.sql`INSERT INTO users (id, name) VALUES (${id}, 'after the kill')`;
          await a.sql`INSERT INTO events (id, v) SELECT ${id}::int + g, 'after the kill' FROM generate_series(0, 9) g`;
          await until(
            "changes committed after the kill arrive",
            async () => {
              const [row] = await b.sql`SELECT (SELECT count(*) FROM users WHERE id = ${id})::int AS users,
                (SELECT count(*) FROM events WHERE id BETWEEN ${id} AND ${id + 9})::int AS events`;
              return (row?.users === 1 && row?.events === 10) || row;
            },
            20_000,
          );
          const took = performance.now() - killedAt;
          expect(took).toBeLessThan(10_000);
        }
      } finally {
        await load.stop();
      }
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
