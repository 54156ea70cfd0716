/** `replicator snapshot`: rows that exist already, while changes flow, whatever is killed on the way (I6 I8). */
import { afterEach, expect, test } from "bun:test";
import postgres from "postgres";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { untilEqual } from "./harness.ts";
import { BROKERS, openPair, type Pair } from "./pair.ts";
import { rowsDone, SnapshotProcess, untilRows, watchStamps } from "./snapshot_process.ts";
import { random } from "./writers.ts";

/** The full form: SNAPSHOT_ROWS=1000000, over both brokers. */
const ROWS = Number(process.env.SNAPSHOT_ROWS ?? 20_000);
const FULL = ROWS >= 1_000_000;
/** Slow enough to be killed three times on its way; the full form is slow by itself. */
const RATE = FULL ? [] : ["--rate", String(Math.ceil(ROWS / 5))];
const TEST_MS = 900_000;
const SEED = Number(process.env.SEED ?? 11);

const BIG = "CREATE TABLE big (id int PRIMARY KEY, name text, v text, at timestamptz)";
const FILL = `INSERT INTO big SELECT i, 'name ' || i, repeat(md5(i::text), 4), '2020-01-01'::timestamptz + i * interval '1 s' FROM generate_series(1, ${ROWS}) i`;

/** Two databases, filled before they are put under replication. */
async function filled(...texts: readonly string[]): Promise<readonly string[]> {
  const urls: string[] = [];
  for (const text of texts) {
    const url = await freshDatabase(await sharedPostgres());
    const sql = postgres(url, { max: 1, onnotice: () => undefined });
    await sql.unsafe(text).simple();
    await sql.end();
    urls.push(url);
  }
  return urls;
}

/** Writes to rows that exist already, of all ages, until stopped. */
function startLoad(
  sql: postgres.Sql,
  seed: number,
  statements: (pick: (limit: number) => number, n: number) => string,
) {
  const next = random(seed);
  let stopped = false;
  let written = 0;
  const run = async () => {
    while (!stopped) {
      try {
        await sql.unsafe(statements((limit) => Math.floor(next() * limit) + 1, ++written)).simple();
      } catch (error) {
        // deadlocks with apply, a key that is taken: an application's everyday
        if ((error as { code?: unknown }).code === "CONNECTION_ENDED") return;
      }
      // leaves the processor to what is tested
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  const running = run();
  return {
    written: () => written,
    stop: async () => {
      stopped = true;
      await running;
    },
  };
}

for (const broker of FULL ? BROKERS : (["nats"] as const)) {
  describeWith([broker, "postgres"], `snapshot over ${broker}`, () => {
    let pair: Pair | undefined;
    afterEach(() => pair?.close());

    test(
      `${ROWS} rows under load, killed three times, the publisher once: equal, no row overwritten by an older image, each process below 200 MB`,
      async () => {
        const urls = await filled(`${BIG}; ${FILL}`, BIG);
        pair = await openPair({ broker, ddl: "SELECT 1", tables: [{ name: "big" }], urls });
        const { a, b } = pair;
        for (const { sql } of [a, b]) await sql.unsafe(watchStamps("big"));
        let publisher = await a.start("publisher,consumer");
        const consumer = await b.start("publisher,consumer");
        const loads = [
          startLoad(
            a.sql,
            SEED,
            (pick, n) =>
              [
                `UPDATE big SET v = 'a${n}' WHERE id = ${pick(ROWS)}`,
                `DELETE FROM big WHERE id = ${pick(ROWS)}`,
                `INSERT INTO big VALUES (${2 * ROWS + 2 * n}, 'a', 'new', now())`,
                `UPDATE big SET id = ${4 * ROWS + 2 * n} WHERE id = ${pick(ROWS)}`,
              ][n % 4 === 0 ? pick(4) - 1 : 0] ?? "",
          ),
          startLoad(b.sql, SEED + 1, (pick, n) => `UPDATE big SET v = 'b${n}' WHERE id = ${pick(ROWS)}`),
        ];
        const began = performance.now();
        const peaks: number[] = [];
        for (const part of [0.2, 0.45, 0.7]) {
          const snapshot = new SnapshotProcess(a, ...RATE);
          await untilRows(a.sql, ROWS * part).catch(async (error) => {
            throw new Error(`${String(error)}\n${snapshot.stderr}\n${a.logs()}\n${b.logs()}`);
          });
          await snapshot.kill();
          peaks.push(snapshot.peakMegabytes());
          if (part === 0.45) {
            peaks.push(publisher.peakMegabytes());
            await publisher.kill();
            publisher = await a.start("publisher,consumer");
          }
        }
        const last = new SnapshotProcess(a, ...RATE, "--wait", "--json");
        const { code, stdout, stderr } = await last.ended;
        expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
        peaks.push(last.peakMegabytes());
        const seconds = (performance.now() - began) / 1_000;
        expect(JSON.parse(stdout)).toMatchObject({
          state: "complete",
          confirmed: true,
          tables: [{ table: "big", state: "done" }],
        });
        expect(stderr).toContain("Going on with the snapshot that was not finished");
        for (const load of loads) await load.stop();
        await untilEqual([a, b], { big: "id" }, FULL ? 600_000 : 120_000);
        const healed = (performance.now() - began) / 1_000;
        peaks.push(publisher.peakMegabytes(), consumer.peakMegabytes());
        if (FULL)
          console.log(
            `${broker}: ${ROWS} rows put and confirmed in ${seconds.toFixed(1)} s (${Math.round(ROWS / seconds)} rows/s, with three kills), equal after ${healed.toFixed(1)} s; peaks ${peaks.map(Math.round).join(" ")} MB; ${loads.map((load) => load.written()).join(" + ")} writes meanwhile`,
          );
        for (const peak of peaks) expect(peak).toBeLessThanOrEqual(200);
        for (const { sql } of [a, b]) expect([...(await sql`SELECT what FROM went_back`)]).toEqual([]);
        // each row was put into the queue once: what the chunks say is what is there
        const [queued] = await a.sql`SELECT sum(rows)::int AS rows FROM replicator.queue WHERE operation = 'S'`;
        expect(Number(queued?.rows)).toBe(await rowsDone(a.sql));
        if (!FULL) {
          const [keys] =
            await a.sql`SELECT count(*)::int AS rows, count(DISTINCT record_id)::int AS keys FROM replication_queue WHERE operation = 'SNAPSHOT'`;
          expect(keys?.keys).toBe(keys?.rows);
        }
      },
      TEST_MS,
    );
  });
}

const SHOP = `CREATE TABLE payments (id int PRIMARY KEY, user_id int NOT NULL, amount int);
CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE, note text);
ALTER TABLE payments ADD FOREIGN KEY (user_id) REFERENCES users;`;
const USERS = (from: number, to: number, note: string) =>
  `INSERT INTO users SELECT i, 'e' || i, ${note} FROM generate_series(${from}, ${to}) i; INSERT INTO payments SELECT i, i, 1 FROM generate_series(${from}, ${to}) i`;

describeWith(["nats", "postgres"], "snapshots between populated contours", () => {
  let pair: Pair | undefined;
  afterEach(() => pair?.close());

  test(
    "two populated contours with equal, different, deleted rows and rows of their own are joined while both are written: they end equal",
    async () => {
      // 1 to 500 at both, alike but for every tenth; 501 to 1000 only at the first, 1001 to 1500 only at the second
      const urls = await filled(
        `${SHOP} ${USERS(1, 500, "'same'")}; ${USERS(501, 1000, "'first'")}; UPDATE users SET note = 'first' WHERE id <= 500 AND id % 10 = 0`,
        `${SHOP} ${USERS(1, 500, "'same'")}; ${USERS(1001, 1500, "'second'")}; UPDATE users SET note = 'second' WHERE id <= 500 AND id % 10 = 0`,
      );
      pair = await openPair({
        broker: "nats",
        ddl: "SELECT 1",
        tables: [{ name: "users" }, { name: "payments", topic: "payments_own" }],
        urls,
      });
      const { a, b } = pair;
      for (const { sql } of [a, b]) await sql.unsafe(watchStamps("users"));
      // written and deleted since setup, before anybody reads
      await a.sql
        .unsafe("DELETE FROM payments WHERE id IN (1, 2, 3); DELETE FROM users WHERE id IN (1, 2, 3)")
        .simple();
      await b.sql.unsafe("DELETE FROM payments WHERE id IN (11, 12); DELETE FROM users WHERE id IN (11, 12)").simple();
      await a.sql
        .unsafe("UPDATE users SET note = 'a' WHERE id = 21; UPDATE users SET email = 'both' WHERE id = 22")
        .simple();
      await b.sql
        .unsafe("UPDATE users SET note = 'b' WHERE id = 21; UPDATE users SET email = 'both' WHERE id = 23")
        .simple();
      await Promise.all([a.start(), b.start()]);
      const load = (sql: postgres.Sql, name: string, seed: number) =>
        startLoad(sql, seed, (pick, n) =>
          n % 5 === 0
            ? `INSERT INTO users VALUES (${10_000 + 2 * n + (seed % 2)}, '${name}${n}', '${name}')`
            : n % 7 === 0
              ? `WITH gone AS (DELETE FROM payments WHERE user_id = ${pick(1500)} RETURNING user_id) SELECT 1`
              : `UPDATE users SET note = '${name}${n}' WHERE id = ${pick(1500)}`,
        );
      const loads = [load(a.sql, "a", SEED), load(b.sql, "b", SEED + 1)];
      const snapshots = [new SnapshotProcess(a, "--wait"), new SnapshotProcess(b, "--wait")];
      for (const snapshot of snapshots) {
        const { code, stderr } = await snapshot.ended;
        expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
      }
      for (const one of loads) await one.stop();
      await until(
        "nothing is parked and everything is published",
        async () => {
          const found = await Promise.all(
            [a, b].map(async ({ sql }) => {
              const [row] =
                await sql`SELECT (SELECT count(*) FROM inbox)::int AS parked, (SELECT count(*) FROM replication_queue WHERE NOT published)::int AS waiting`;
              return [Number(row?.parked), Number(row?.waiting)];
            }),
          );
          return found.flat().every((count) => count === 0) || found;
        },
        120_000,
      ).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${a.logs()}\n${b.logs()}`);
      });
      await untilEqual([a, b], { users: "id", payments: "id" }, 120_000);
      for (const { sql } of [a, b]) {
        expect([...(await sql`SELECT what FROM went_back`)]).toEqual([]);
        const [found] = await sql`SELECT
          (SELECT count(*) FROM users WHERE id IN (1, 2, 3, 11, 12))::int AS deleted, (SELECT count(*) FROM users WHERE id BETWEEN 501 AND 1500)::int AS own,
          (SELECT count(*) FROM users WHERE email = 'both')::int AS both`;
        expect(found).toEqual({ deleted: 0, own: 1000, both: 1 });
        // rows that were alike say nothing; those that were not are there to be looked at
        const [lines] = await sql`SELECT count(*)::int AS all FROM conflict_log WHERE table_name = 'users'`;
        expect(lines?.all).toBeLessThan(400);
      }
      const [listed] = await a.sql`SELECT count(*)::int AS ties FROM conflict_log WHERE reason = 'row text'`;
      expect(listed?.ties).toBeGreaterThan(0);
    },
    TEST_MS,
  );

  test(
    "tables add --snapshot sends the rows of a table that comes under replication while the others are replicated",
    async () => {
      const urls = await filled(
        `${BIG}; ${FILL}; CREATE TABLE other (id int PRIMARY KEY)`,
        `${BIG}; CREATE TABLE other (id int PRIMARY KEY)`,
      );
      pair = await openPair({ broker: "nats", ddl: "SELECT 1", tables: [{ name: "other" }], urls });
      const { a, b } = pair;
      const [here, there] = [await a.start(), await b.start()];
      await a.sql.unsafe("INSERT INTO other VALUES (1)");
      await untilEqual([a, b], { other: "id" });
      for (const contour of [a, b])
        contour.reconfigure((config) =>
          Object.assign(config, { critical_tables: [{ name: "other" }, { name: "big" }] }),
        );
      // those who apply come first; who sends needs no restart
      expect(await b.command("tables", "add", "big")).toMatchObject({ code: 0 });
      await there.stop();
      await b.start();
      const { code, stderr } = await a.command("tables", "add", "big", "--snapshot");
      expect({ code, stderr }).toMatchObject({
        code: 0,
        stderr: expect.stringContaining(`Done: ${ROWS.toLocaleString("en-US")} rows of 1 table`),
      });
      await untilEqual([a, b], { other: "id", big: "id" }, 120_000);
      const status = await here.get("/status");
      expect(status.body).toMatchObject({
        snapshots: [{ table: "big", channel: "changes", state: "done", rows_done: ROWS }],
      });
      const drawn = await a.command("status", "--api-port", String(here.port));
      expect(drawn.stdout).toMatch(/SNAPSHOT OF\s+STATE.*\nbig\s+done/);
      const events = await b.sql`SELECT DISTINCT operation FROM processed_events WHERE table_name LIKE '%big'`;
      expect(events.map(({ operation }) => operation)).toEqual(["SNAPSHOT"]);
    },
    TEST_MS,
  );
});
