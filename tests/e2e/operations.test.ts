/** Every kind of write at one contour ends as the same rows at the other, applied once, in both kinds of channel. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type Contour, untilEqual } from "./harness.ts";
import { BROKERS, openPair, type Pair } from "./pair.ts";

const DDL = `
CREATE TABLE users (id bigint PRIMARY KEY, name text, email text, score numeric);
CREATE TABLE payments (id bigint PRIMARY KEY, user_id bigint REFERENCES users DEFERRABLE INITIALLY IMMEDIATE, amount numeric);
CREATE TABLE accounts (id bigint PRIMARY KEY, email text UNIQUE DEFERRABLE INITIALLY DEFERRED, note text);
CREATE TABLE nodes (id bigint PRIMARY KEY, parent bigint REFERENCES nodes DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE touched (id bigint PRIMARY KEY, note text, touches int NOT NULL DEFAULT 0);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF pg_trigger_depth() = 1 THEN UPDATE touched SET touches = touches + 1 WHERE id = NEW.id; END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER a_touch AFTER INSERT OR UPDATE ON touched FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE parts (region text, id bigint, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
CREATE TABLE parts_us PARTITION OF parts FOR VALUES IN ('us');
CREATE TABLE events (id bigint PRIMARY KEY, v text, n numeric);
CREATE TABLE packed (id bigint PRIMARY KEY, v text, n numeric);
`;
const KEYS = {
  users: "id",
  payments: "id",
  accounts: "id",
  nodes: "id",
  touched: "id",
  parts: "region, id",
  events: "id",
  packed: "id",
};
const TABLES = [
  ...["users", "payments", "accounts", "nodes", "touched", "parts"].map((name) => ({ name })),
  { name: "events", topic: "events_changes" },
  { name: "packed", capture: "statement" },
];

for (const broker of BROKERS) {
  describeWith([broker, "postgres"], `operations over ${broker}`, () => {
    let pair: Pair;
    let a: Contour;
    let b: Contour;
    beforeAll(async () => {
      pair = await openPair({ broker, ddl: DDL, tables: TABLES, kafkaTopic: { partitions: 3 } });
      ({ a, b } = pair);
      await Promise.all([a.start(), b.start()]);
    });
    afterAll(() => pair?.close());
    const equal = () => untilEqual([a, b], KEYS);

    for (const table of ["users", "events", "packed"]) {
      const columns = table === "users" ? "id, name, score" : "id, v, n";
      const [text, number] = table === "users" ? ["name", "score"] : ["v", "n"];

      test(`${table}: INSERT, UPDATE, DELETE, key change and INSERT ON CONFLICT arrive`, async () => {
        await a.sql.unsafe(`INSERT INTO ${table} (${columns}) VALUES (1, 'one', 1.10), (2, 'two', 2), (3, 'three', 3)`);
        await equal();
        await a.sql.unsafe(`UPDATE ${table} SET ${text} = 'zwei' WHERE id = 2`);
        await a.sql.unsafe(`DELETE FROM ${table} WHERE id = 3`);
        await a.sql.unsafe(`UPDATE ${table} SET id = 10 WHERE id = 1`);
        await a.sql.unsafe(
          `INSERT INTO ${table} (${columns}) VALUES (2, 'again', 4), (4, 'four', 4) ON CONFLICT (id) DO UPDATE SET ${text} = EXCLUDED.${text}`,
        );
        await equal();
        const rows = await b.sql.unsafe(`SELECT id::text, ${text} AS text FROM ${table} r ORDER BY r.id`);
        expect(rows.map((row) => [row.id, row.text])).toEqual([
          ["2", "again"],
          ["4", "four"],
          ["10", "one"],
        ]);
      });

      test(`${table}: a deleted and reinserted key ends as the new row`, async () => {
        await a.sql.begin(async (sql) => {
          await sql.unsafe(`DELETE FROM ${table} WHERE id = 10`);
          await sql.unsafe(`INSERT INTO ${table} (${columns}) VALUES (10, 'reborn', 1)`);
        });
        await equal();
        expect((await b.sql.unsafe(`SELECT ${text} AS text FROM ${table} WHERE id = 10`))[0]?.text).toBe("reborn");
      });

      test(`${table}: savepoint rollbacks leave nothing`, async () => {
        await a.sql.begin(async (sql) => {
          await sql.unsafe(`INSERT INTO ${table} (${columns}) VALUES (100, 'kept', 1)`);
          await sql
            .savepoint(async (inner) => {
              await inner.unsafe(`INSERT INTO ${table} (${columns}) VALUES (101, 'gone', 1)`);
              await inner.unsafe(`UPDATE ${table} SET ${text} = 'gone' WHERE id = 100`);
              throw new Error("roll back");
            })
            .catch(() => undefined);
        });
        await equal();
        const [row] = await b.sql.unsafe(
          `SELECT count(*)::int AS n, max(${text}) AS text FROM ${table} WHERE id IN (100, 101)`,
        );
        expect({ ...row }).toEqual({ n: 1, text: "kept" });
      });

      test(`${table}: a 1,000-row INSERT and its UPDATE arrive`, async () => {
        await a.sql.unsafe(
          `INSERT INTO ${table} (${columns}) SELECT g, 'row ' || g, g / 7.0 FROM generate_series(1001, 2000) g`,
        );
        await a.sql.unsafe(`UPDATE ${table} SET ${number} = ${number} + 1 WHERE id > 1000`);
        await equal();
      });

      test(`${table}: TRUNCATE arrives, and what is inserted after it stays`, async () => {
        await a.sql.unsafe(table === "users" ? "TRUNCATE users CASCADE" : `TRUNCATE ${table}`);
        await a.sql.unsafe(`INSERT INTO ${table} (${columns}) VALUES (1, 'after', 1)`);
        await equal();
        expect((await b.sql.unsafe(`SELECT count(*)::int AS n FROM ${table}`))[0]?.n).toBe(1);
      });
    }

    test("COPY arrives", async () => {
      const { Readable } = await import("node:stream");
      const { pipeline } = await import("node:stream/promises");
      const copy = await a.sql`COPY users (id, name, score) FROM STDIN`.writable();
      await pipeline(Readable.from(["500\tcopied\t1.5\n501\tcopied too\t\\N\n"]), copy);
      await equal();
      expect((await b.sql`SELECT count(*)::int AS n FROM users WHERE name LIKE 'copied%'`)[0]?.n).toBe(2);
    });

    test("parents and children of one transaction arrive together, deletes in the other order", async () => {
      await a.sql.begin(async (sql) => {
        await sql`INSERT INTO users (id, name) VALUES (700, 'parent')`;
        await sql`INSERT INTO payments (id, user_id, amount) VALUES (1, 700, 10.50)`;
      });
      await equal();
      await a.sql.begin(async (sql) => {
        await sql`DELETE FROM payments WHERE id = 1`;
        await sql`DELETE FROM users WHERE id = 700`;
      });
      await equal();
    });

    test("deferred foreign keys and deferred unique values that commit against queue order arrive", async () => {
      const [one, two] = [await a.sql.reserve(), await a.sql.reserve()];
      try {
        // The child is captured first and commits last.
        await one`BEGIN`;
        await two`BEGIN`;
        await one`INSERT INTO nodes (id, parent) VALUES (2, 1)`;
        await two`INSERT INTO nodes (id, parent) VALUES (1, NULL)`;
        await two`COMMIT`;
        await one`COMMIT`;
        await a.sql`INSERT INTO accounts (id, email, note) VALUES (1, 'x', 'first')`;
        await equal();
        // T1 frees the value (lower id) and goes on writing, T2 takes it.
        await one`BEGIN`;
        await two`BEGIN`;
        await one`DELETE FROM accounts WHERE id = 1`;
        await two`INSERT INTO accounts (id, email, note) VALUES (2, 'x', 'second')`;
        await one`INSERT INTO accounts (id, email, note) VALUES (3, 'y', 'third')`;
        await one`COMMIT`;
        await two`COMMIT`;
        // Two rows swap a unique value in one transaction.
        await a.sql`UPDATE accounts SET email = CASE email WHEN 'x' THEN 'y' ELSE 'x' END`;
        await equal();
      } finally {
        one.release();
        two.release();
      }
    });

    test("a user's AFTER trigger that updates its own row arrives once", async () => {
      await a.sql`INSERT INTO touched (id, note) VALUES (1, 'n')`;
      await a.sql`UPDATE touched SET note = 'm' WHERE id = 1`;
      await equal();
      expect((await b.sql`SELECT note, touches FROM touched`)[0]).toMatchObject({ note: "m", touches: 2 });
    });

    test("partitioned tables arrive, rows that move between partitions too", async () => {
      await a.sql`INSERT INTO parts SELECT r, g, 'v' FROM generate_series(1, 50) g, (VALUES ('eu'), ('us')) AS p (r)`;
      await a.sql`UPDATE parts SET region = 'us', id = id + 1000 WHERE region = 'eu' AND id <= 10`;
      await a.sql`INSERT INTO parts_us VALUES ('us', 5000, 'direct')`;
      await equal();
      await a.sql`TRUNCATE parts_eu`;
      await equal();
      expect((await b.sql`SELECT count(*)::int AS n FROM parts`)[0]?.n).toBe(61);
    });

    for (const table of ["users", "packed"]) {
      test(`${table}: 200,000 rows in one statement arrive`, async () => {
        const column = table === "users" ? "name" : "v";
        await a.sql.unsafe(
          `INSERT INTO ${table} (id, ${column}) SELECT g, repeat('x', 120) FROM generate_series(1000001, 1200000) g`,
        );
        await untilEqual([a, b], { [table]: "id" }, 110_000);
        await a.sql.unsafe(`DELETE FROM ${table} WHERE id > 1000000`);
        await untilEqual([a, b], { [table]: "id" }, 110_000);
      });
    }

    test("I9: writes at both contours arrive at the other, nothing comes back, each change applied once", async () => {
      await Promise.all([
        a.sql`INSERT INTO users (id, name) SELECT g, 'from a' FROM generate_series(2000001, 2000500) g`,
        b.sql`INSERT INTO users (id, name) SELECT g, 'from b' FROM generate_series(3000001, 3000500) g`,
      ]);
      await equal();
      await until("both queues are published", async () => {
        const counts = await Promise.all(
          [a, b].map(({ sql }) => sql`SELECT count(*)::int AS n FROM replication_queue WHERE published = FALSE`),
        );
        return counts.every(([row]) => row?.n === 0) ? true : counts;
      });
      const looped = await Promise.all([
        a.sql`SELECT count(*)::int AS n FROM replication_queue WHERE new_data::text LIKE '%from b%'`,
        b.sql`SELECT count(*)::int AS n FROM replication_queue WHERE new_data::text LIKE '%from a%'`,
      ]);
      expect(looped.map(([row]) => row?.n)).toEqual([0, 0]);
      // A TRUNCATE of a partitioned topic is one event in each partition.
      const [twice] = await b.sql`SELECT count(*)::int AS n FROM (SELECT event_id FROM processed_events
        WHERE operation <> 'TRUNCATE' GROUP BY event_id HAVING count(*) > 1) d`;
      expect(twice?.n).toBe(0);
      expect([...(await b.sql`SELECT table_name, operation, error FROM inbox`)]).toEqual([]);
    });
  });
}
