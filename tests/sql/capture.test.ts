/** Capture on real PostgreSQL: every way to change a row, in both forms. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { captured, contents, type Database, freshSetup, replay, texts } from "./database.ts";

const operations = (changes: readonly { operation: string }[]) => changes.map(({ operation }) => operation).join("");

describeWith("postgres", "capture", () => {
  let db: Database;
  beforeAll(async () => {
    db = await freshSetup();
  });
  afterAll(() => db.close());

  for (const form of ["row", "statement"] as const) {
    describe(`capture by ${form} triggers`, () => {
      let serial = 0;
      /** A new table with some rows that existed before its setup. */
      const table = async (columns = "id int PRIMARY KEY, name text, n numeric") => {
        const name = `${form}_${++serial}`;
        await db.run(`CREATE TABLE ${name} (${columns});
                      SELECT setup_table_for_replication('${name}', '{"capture":"${form}"}')`);
        return name;
      };
      const equal = async (name: string, key = ["id"]) =>
        expect(replay(await captured(db.sql, name), key)).toEqual(await contents(db.sql, name, key));

      test("INSERT, UPDATE and DELETE of many rows are captured once each", async () => {
        const name = await table();
        await db.run(`INSERT INTO ${name} SELECT i, 'r' || i, 1.50 FROM generate_series(1, 1000) i`);
        await db.run(`UPDATE ${name} SET n = n + 1 WHERE id <= 10`);
        await db.run(`DELETE FROM ${name} WHERE id > 990`);
        const changes = await captured(db.sql, name);
        expect(operations(changes)).toBe("I".repeat(1000) + "U".repeat(10) + "D".repeat(10));
        expect(changes[0]?.row).toMatchObject({ id: 1, name: "r1", version: 1, updated_by: "alpha" });
        expect(changes[1000]?.row).toMatchObject({ id: 1, version: 2 });
        expect(changes[1010]?.row).toEqual({
          id: 991,
          version: 2,
          updated_at: expect.any(String),
          updated_by: "alpha",
        });
        expect(changes[1010]?.old).toMatchObject({ id: 991, name: "r991", version: 1 });
        await equal(name);
      });

      test("statements that change nothing leave nothing", async () => {
        const name = await table();
        await db.run(`UPDATE ${name} SET n = 1; DELETE FROM ${name}; INSERT INTO ${name} SELECT 1 WHERE false`);
        expect(await captured(db.sql, name)).toEqual([]);
      });

      const waiters = {
        "an INSERT": (name: string) => `INSERT INTO ${name} VALUES (1, 'new')`,
        "an INSERT … ON CONFLICT": (name: string) =>
          `INSERT INTO ${name} VALUES (1, 'new') ON CONFLICT (id) DO UPDATE SET name = 'new'`,
        "a key change": (name: string) => `UPDATE ${name} SET id = 1, name = 'new' WHERE id = 2`,
      };
      for (const [what, statement] of Object.entries(waiters)) {
        test(`law 1: ${what} that waited for the DELETE of its key is captured above the tombstone`, async () => {
          const name = await table();
          await db.run(`INSERT INTO ${name} VALUES (1, 'old'), (2, 'other'); UPDATE ${name} SET n = 1 WHERE id = 1`);
          const deleting = db.connect();
          await deleting.unsafe(`BEGIN; DELETE FROM ${name} WHERE id = 1`).simple();
          const waiting = db.run(statement(name));
          await until("it waits for the DELETE", async () => {
            const [row] = await deleting`SELECT count(*)::int AS n FROM pg_stat_activity
              WHERE datname = current_database() AND wait_event_type = 'Lock'`;
            return row?.n === 1;
          });
          await deleting.unsafe("COMMIT").simple();
          await waiting;
          const [id] = await db.sql`SELECT table_id AS id FROM replicator.replicated_table WHERE table_name = ${name}`;
          const [row] = await db.sql.unsafe(
            `SELECT r.name, r.version > t.version AND r.updated_at > t.updated_at AS above
             FROM ${name} r JOIN replicator.tombstone_${id?.id} t USING (id) WHERE r.id = 1`,
          );
          expect({ ...row }).toEqual({ name: "new", above: true });
          const [stored] = await db.sql.unsafe(`SELECT version::int FROM ${name} WHERE id = 1`);
          const versions = (await captured(db.sql, name))
            .filter(({ row }) => row.id === 1)
            .map(({ row }) => row.version);
          expect(Math.max(...versions.map(Number))).toBe(stored?.version);
          expect(
            await texts(db.sql, `SELECT table_name FROM replicator.bypass_log WHERE table_name LIKE '%${name}'`),
          ).toEqual([]);
        });
      }

      test("a key change is DELETE of the old key and INSERT of the new one", async () => {
        const name = await table();
        await db.run(`INSERT INTO ${name} VALUES (1, 'a')`);
        await db.run(`UPDATE ${name} SET id = 2, name = 'b'`);
        const changes = await captured(db.sql, name);
        expect(operations(changes)).toBe("IDI");
        expect(changes[1]?.row).toMatchObject({ id: 1, version: 2 });
        expect(changes[1]?.old).toMatchObject({ id: 1, name: "a", version: 1 });
        expect(changes[2]?.row).toMatchObject({ id: 2, name: "b", version: 2 });
        await equal(name);
      });

      test("keys that move along in one statement end with the right stamps (I6)", async () => {
        const name = await table();
        // stored from the top down, so that each row takes the key its neighbour has just left
        await db.run(`INSERT INTO ${name} SELECT i, 'r' || i FROM generate_series(20, 1, -1) i`);
        await db.run(`UPDATE ${name} SET id = id + 1`);
        await db.run(`UPDATE ${name} SET id = id + 1`);
        expect([...(await contents(db.sql, name, ["id"])).keys()].length).toBe(20);
        await equal(name);
      });

      test("a deleted and reinserted key goes on above its tombstone, in one transaction or two (I6)", async () => {
        const name = await table();
        const versions: number[] = [];
        const note = async () => {
          const [row] = await db.sql.unsafe<{ version: string }[]>(`SELECT version FROM ${name} WHERE id = 1`);
          versions.push(Number(row?.version));
        };
        await db.run(`INSERT INTO ${name} VALUES (1, 'a')`);
        await note();
        await db.run(`DELETE FROM ${name}; INSERT INTO ${name} VALUES (1, 'b')`);
        await note();
        await db.run(`DELETE FROM ${name}`);
        await db.run(`INSERT INTO ${name} VALUES (1, 'c')`);
        await note();
        await db.run(`WITH gone AS (DELETE FROM ${name} RETURNING id) INSERT INTO ${name} SELECT 7 FROM gone`);
        await db.run(`UPDATE ${name} SET id = 1`);
        await note();
        expect(versions.every((version, n) => n === 0 || version > (versions[n - 1] ?? 0))).toBe(true);
        await equal(name);
      });

      test("COPY, ON CONFLICT and writes through a view are captured", async () => {
        const name = await table();
        await db.run(`INSERT INTO ${name} VALUES (1, 'a'), (2, 'b')`);
        await db.run(
          `INSERT INTO ${name} VALUES (2, 'x'), (3, 'c') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, version = 0`,
        );
        await db.run(`INSERT INTO ${name} VALUES (3, 'y') ON CONFLICT DO NOTHING`);
        await db.run(
          `CREATE VIEW ${name}_v AS SELECT id, name FROM ${name}; UPDATE ${name}_v SET name = 'v' WHERE id = 1`,
        );
        const copy = await db.sql.unsafe(`COPY ${name} (id, name) FROM STDIN`).writable();
        await new Promise<void>((resolve, reject) => {
          copy.on("error", reject).on("finish", () => resolve());
          copy.end("10\tcopied\n11\ttoo\n");
        });
        expect(
          operations(await captured(db.sql, name))
            .split("")
            .sort()
            .join(""),
        ).toBe("IIIIIUU");
        expect((await contents(db.sql, name, ["id"])).get("[2]")).toMatchObject({ name: "x", version: 2 });
        await equal(name);
      });

      test("what a savepoint or a transaction rolls back leaves nothing (I1)", async () => {
        const name = await table();
        await db.sql.begin(async (tx) => {
          await tx.unsafe(`INSERT INTO ${name} VALUES (1, 'kept')`);
          await tx
            .savepoint(async (inner) => {
              await inner.unsafe(`INSERT INTO ${name} VALUES (2, 'gone'); `);
              throw new Error("rolled back");
            })
            .catch(() => undefined);
        });
        expect((await captured(db.sql, name)).map(({ row }) => row.id)).toEqual([1]);
        await equal(name);
      });

      test("a user's AFTER trigger that updates its own row ends with the later image (I6)", async () => {
        const name = await table();
        await db.run(`CREATE FUNCTION ${name}_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                        UPDATE ${name} SET n = 42 WHERE id = NEW.id; RETURN NULL; END $$;
                      CREATE TRIGGER own AFTER INSERT ON ${name} FOR EACH ROW EXECUTE FUNCTION ${name}_f()`);
        await db.run(`INSERT INTO ${name} SELECT i, 'x' FROM generate_series(1, 5) i`);
        expect(
          operations(await captured(db.sql, name))
            .split("")
            .sort()
            .join(""),
        ).toBe("IIIIIUUUUU");
        await equal(name);
      });

      test("TRUNCATE is a floor: rows before it are gone, rows after it stand above it, also under REPEATABLE READ", async () => {
        const name = await table();
        await db.run(`INSERT INTO ${name} VALUES (1, 'a'), (2, 'b')`);
        for (let n = 0; n < 5; n++) await db.run(`UPDATE ${name} SET n = ${n} WHERE id = 2`);
        await db.run(`TRUNCATE ${name}; INSERT INTO ${name} VALUES (2, 'again')`);
        expect((await contents(db.sql, name, ["id"])).get("[2]")).toMatchObject({ version: 8 });
        await equal(name);
        const other = db.connect();
        await db.sql.begin("isolation level repeatable read", async (tx) => {
          await tx.unsafe(`SELECT count(*) FROM "replicator".local`);
          for (let n = 0; n < 4; n++) await other.unsafe(`UPDATE ${name} SET n = ${n}`);
          await tx.unsafe(`TRUNCATE ${name}`);
        });
        await equal(name);
        expect(await contents(db.sql, name, ["id"])).toEqual(new Map());
      });

      test("cascades of a foreign key are captured", async () => {
        const name = await table();
        const child = await table(
          `id int PRIMARY KEY, parent int REFERENCES ${name} ON DELETE CASCADE ON UPDATE CASCADE`,
        );
        await db.run(`INSERT INTO ${name} VALUES (1, 'p'), (2, 'q'); INSERT INTO ${child} VALUES (10, 1), (11, 2)`);
        await db.run(`DELETE FROM ${name} WHERE id = 1; UPDATE ${name} SET id = 3 WHERE id = 2`);
        expect(operations(await captured(db.sql, child))).toBe("IIDU");
        await equal(name);
        await equal(child);
      });

      test("composite keys of types without an equality of their own schema work", async () => {
        const name = await table('a uuid, b text COLLATE "C", c numeric, d date, v text, PRIMARY KEY (c, a, b, d)');
        await db.run(
          `INSERT INTO ${name} SELECT gen_random_uuid(), 'k' || i, i + 0.10, '2026-01-01', 'v' FROM generate_series(1, 5) i`,
        );
        await db.run(`UPDATE ${name} SET v = 'w', d = d + 1 WHERE c < 3; DELETE FROM ${name} WHERE c > 4`);
        await equal(name, ["c", "a", "b", "d"]);
      });
    });
  }

  test("a floor that apply wrote lifts the next insert above it (I6)", async () => {
    await db.run(
      `CREATE TABLE floored (id int PRIMARY KEY); SELECT setup_table_for_replication('floored'); INSERT INTO floored VALUES (1)`,
    );
    await db.run(`INSERT INTO "replicator".floor SELECT table_id, 100, '2020-01-01', 'beta' FROM "replicator".replicated_table WHERE table_name = 'floored';
                  INSERT INTO floored VALUES (2); UPDATE floored SET id = 3 WHERE id = 1`);
    const rows = await db.sql`SELECT id, version::int FROM floored ORDER BY id`;
    expect([...rows]).toEqual([
      { id: 2, version: 101 },
      { id: 3, version: 101 },
    ]);
  });

  test("statement form packs rows into chunks of about 64 kB, a large row of its own size", async () => {
    await db.run(`CREATE TABLE packed (id int PRIMARY KEY, v text);
                  SELECT setup_table_for_replication('packed', '{"capture":"statement"}')`);
    await db.run(`INSERT INTO packed SELECT i, repeat('x', 100) FROM generate_series(1, 5000) i`);
    await db.run(`INSERT INTO packed SELECT 10000 + i, repeat('x', 300000) FROM generate_series(1, 3) i`);
    const sizes = await db.sql<{ bytes: number; rows: number }[]>`
      SELECT octet_length(data) AS bytes, rows FROM "replicator".queue q JOIN "replicator".replicated_table t USING (table_id)
       WHERE table_name = 'packed' ORDER BY id`;
    expect(sizes.filter(({ rows }) => rows > 1).every(({ bytes }) => bytes < 70_000)).toBe(true);
    expect(sizes.filter(({ bytes }) => bytes > 300_000).map(({ rows }) => rows)).toEqual([1, 1, 1]);
    expect(sizes.reduce((sum, { rows }) => sum + rows, 0)).toBe(5003);
    expect(sizes.length).toBeLessThan(30);
  });
});
