/** Polled tables between two contours of the real program. */
import { afterEach, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { untilEqual } from "./harness.ts";
import { BROKERS, ownBroker, type Pair } from "./pair.ts";
import { openPeriodicPair, pollNow, troubles } from "./periodic_pair.ts";

const CLEAN = { parked: 0, conflicts: 0, twice: 0 };
const BOTH = { products: "id", categories: "id" };

for (const broker of BROKERS) {
  describeWith([broker, "postgres"], `polled tables over ${broker}`, () => {
    let pair: Pair | undefined;
    afterEach(() => pair?.close());

    test("the first run sends the table, later ones what changed: 5,000 rows with one timestamp, a late commit, deletions, a TRUNCATE", async () => {
      pair = await openPeriodicPair({ broker });
      const { a, b } = pair;
      await a.sql`INSERT INTO products SELECT g, 'p' || g, g / 7.0 FROM generate_series(1, 3000) g`;
      await a.sql`INSERT INTO categories SELECT g, 'c' || g FROM generate_series(1, 10) g`;
      const [running] = [await a.start(), await b.start()];
      await untilEqual([a, b], BOTH);
      const late = await a.sql.reserve();
      await late`BEGIN`;
      await late`UPDATE products SET name = 'late' WHERE id BETWEEN 1 AND 50`;
      await a.sql`UPDATE products SET name = 'early' WHERE id BETWEEN 51 AND 100`;
      expect((await pollNow(running, "products")).status).toBe(202);
      await until(
        "what was committed arrives",
        async () => (await b.sql`SELECT count(*)::int AS n FROM products WHERE name = 'early'`)[0]?.n === 50,
      );
      expect((await b.sql`SELECT count(*)::int AS n FROM products WHERE name = 'late'`)[0]?.n).toBe(0);
      await late`COMMIT`;
      late.release();
      await a.sql.begin(async (tx) => {
        await tx`SET LOCAL replicator.capture = 'off'`;
        await tx`INSERT INTO products SELECT g, 'same time', 1, NULL, 1, clock_timestamp(), ${a.name} FROM generate_series(10001, 15000) g`;
        await tx`UPDATE products SET updated_at = (SELECT max(updated_at) FROM products) WHERE id > 10000`;
      });
      await a.sql`DELETE FROM products WHERE id BETWEEN 200 AND 300`;
      await a.sql`UPDATE products SET deleted_at = now() WHERE id = 150`;
      running.signal("SIGHUP");
      await untilEqual([a, b], BOTH);
      expect((await b.sql`SELECT count(*)::int AS n FROM products`)[0]?.n).toBe(3000 + 5000 - 101);
      await a.sql`TRUNCATE categories`;
      await pollNow(running, "categories");
      await untilEqual([a, b], BOTH);
      expect([await troubles(a), await troubles(b)]).toEqual([CLEAN, CLEAN]);
      expect(running.exitCode).toBeNull();
    });

    test("the active contour is switched under load, there and back: no row lost, no loop", async () => {
      const ddl = "CREATE TABLE users (id bigint PRIMARY KEY, name text);";
      pair = await openPeriodicPair({ broker, interval: "200ms", batchSize: 100, ddl, critical: [{ name: "users" }] });
      const { a, b } = pair;
      await Promise.all([a.start(), b.start()]);
      let id = 0;
      let written = 0;
      for (const active of [a, b, a, b]) {
        const until = written + 150;
        while (written < until) {
          const next = ++id;
          // One text, one transaction: a new row, and rows that the other contour wrote before.
          await active.sql
            .unsafe(`INSERT INTO products (id, name) VALUES (${next}, '${active.name}'); INSERT INTO users (id, name) VALUES (${next}, 'u');
              UPDATE users SET name = name || '.' WHERE id = ${Math.max(1, next - 40)};
              UPDATE products SET name = name || '.' WHERE id = ${Math.max(1, next - 40)};
              ${next % 10 === 0 ? `DELETE FROM products WHERE id = ${Math.max(1, next - 75)}` : ""}`)
            .simple();
          written++;
        }
      }
      await untilEqual([a, b], { products: "id", users: "id" });
      const rows = (await a.sql`SELECT count(*)::int AS n FROM products`)[0]?.n;
      expect(rows).toBeGreaterThan(500);
      // Quiet now: what is polled from here on would be an echo.
      const queued = () =>
        Promise.all(
          [a, b].map(async ({ sql }) => (await sql`SELECT last_value::int AS n FROM replicator.queue_id_seq`)[0]?.n),
        );
      const runs = async () => Number((await a.sql`SELECT max(run_no) AS n FROM replicator.sync_run`)[0]?.n);
      const settled = await runs();
      await until("some runs went by", async () => (await runs()) > settled + 2);
      const before = await queued();
      await until("more runs went by", async () => (await runs()) > settled + 6);
      expect(await queued()).toEqual(before);
      await untilEqual([a, b], { products: "id" });
    });
  });
}

describeWith(["nats", "postgres"], "role sync", () => {
  let pair: Pair | undefined;
  afterEach(() => pair?.close());

  test("alone it polls and sends; killed between batches and confirmation, the next process goes on, and nothing is applied twice", async () => {
    pair = await openPeriodicPair({ broker: "nats", batchSize: 50 });
    const { a, b } = pair;
    await a.sql`INSERT INTO products SELECT g, repeat('x', 200) || g, 1 FROM generate_series(1, 8000) g`;
    await b.start("consumer");
    for (let kills = 0; kills < 3; kills++) {
      const before = (await a.sql`SELECT count(*)::int AS n FROM replicator.queue`)[0]?.n;
      const victim = await a.start("sync");
      await until(
        "it has queued more",
        async () => (await a.sql`SELECT count(*)::int AS n FROM replicator.queue`)[0]?.n > before + 20,
      );
      await victim.kill();
      await a.sql`UPDATE products SET name = name || '+' WHERE id % 1000 = ${kills}`;
    }
    const running = await a.start("sync");
    await until(
      "the run is confirmed",
      async () =>
        (
          await a.sql`SELECT last_sync_timestamp > '2000-01-01' AS done FROM sync_state WHERE table_name = 'products'`
        )[0]?.done,
    );
    await pollNow(running, "products");
    await untilEqual([a, b], { products: "id" });
    expect(await troubles(b)).toEqual(CLEAN);
    // Each image went once: 8,000 of the first run and 24 that were changed in between.
    expect((await a.sql`SELECT sum(rows)::int AS n FROM replicator.queue`)[0]?.n).toBeLessThanOrEqual(8_024);
  });

  test("two processes that poll one table send nothing twice in effect", async () => {
    pair = await openPeriodicPair({ broker: "nats", batchSize: 20 });
    const { a, b } = pair;
    await a.sql`INSERT INTO products SELECT g, 'p', 1 FROM generate_series(1, 2000) g`;
    await b.start("consumer");
    const [one, two] = [await a.start("sync"), await a.start("sync")];
    await Promise.all([one, two, one, two].map((replicator) => pollNow(replicator, "products")));
    await untilEqual([a, b], { products: "id" });
    expect(await troubles(b)).toEqual(CLEAN);
  });

  test("with the broker away sync_state stands still and the rows are safe in the queue; then it follows", async () => {
    const broker = await ownBroker("nats");
    try {
      pair = await openPeriodicPair({ broker: broker.config });
      const { a, b } = pair;
      const [running] = [await a.start(), await b.start()];
      await a.sql`INSERT INTO products VALUES (1, 'first', 1)`;
      await pollNow(running, "products");
      await untilEqual([a, b], { products: "id" });
      const state = async () =>
        (await a.sql`SELECT last_sync_timestamp::text AS at FROM sync_state WHERE table_name = 'products'`)[0]?.at;
      await until(
        "sync_state shows it",
        async () => (await state()) === (await a.sql`SELECT max(updated_at)::text AS at FROM products`)[0]?.at,
      );
      const before = await state();
      await broker.stop();
      await a.sql`INSERT INTO products VALUES (2, 'second', 1)`;
      await pollNow(running, "products");
      await until(
        "the run has ended",
        async () =>
          (
            await a.sql`SELECT count(*)::int AS n FROM replicator.sync_run WHERE rows = 1 AND finished_at IS NOT NULL AND confirmed_at IS NULL`
          )[0]?.n === 1,
      );
      // A run without rows has nothing to be confirmed: when it counts, this one has been looked at as well.
      const confirmed = async () =>
        (
          await a.sql`SELECT count(*)::int AS n FROM replicator.sync_run WHERE confirmed_at IS NOT NULL AND run_no > 0
          AND table_id = (SELECT table_id FROM replicator.replicated_table WHERE table_name = 'categories')`
        )[0]?.n;
      const known = await confirmed();
      await pollNow(running, "categories");
      await until("another table's run is confirmed", async () => (await confirmed()) > known);
      expect(await state()).toBe(before);
      expect(
        (
          await a.sql`SELECT count(*)::int AS n FROM replication_queue WHERE published = FALSE AND table_name = 'products'`
        )[0]?.n,
      ).toBe(1);
      // A row that is changed between its poll and its publication goes with its newest stamp.
      await a.sql`UPDATE products SET name = 'second, changed' WHERE id = 2`;
      await pollNow(running, "products");
      await broker.start();
      await untilEqual([a, b], { products: "id" });
      expect((await b.sql`SELECT name FROM products WHERE id = 2`)[0]?.name).toBe("second, changed");
      await until("sync_state follows", async () => (await state()) !== before);
      // Set back by hand: everything goes again, and changes nothing there.
      await a.sql`UPDATE sync_state SET last_sync_timestamp = '1970-01-01' WHERE table_name = 'products'`;
      await pollNow(running, "products");
      await until(
        "both rows were sent again",
        async () =>
          (await a.sql`SELECT count(*)::int AS n FROM replication_queue WHERE table_name = 'products'`)[0]?.n >= 4,
      );
      await untilEqual([a, b], { products: "id" });
    } finally {
      await pair?.close();
      pair = undefined;
      await broker.close();
    }
  });

  test("a table that cannot be polled holds up no other, says so on /ready, and goes on once it is mended", async () => {
    pair = await openPeriodicPair({ broker: "nats" });
    const { a, b } = pair;
    const [running] = [await a.start(), await b.start()];
    await a.sql`ALTER TABLE products RENAME TO hidden`;
    await a.sql`INSERT INTO categories VALUES (1, 'c')`;
    await pollNow(running, "products");
    await pollNow(running, "categories");
    await untilEqual([a, b], { categories: "id" });
    const reasons = async () => JSON.stringify((await running.get("/ready")).body.reasons);
    await until("/ready names the table", async () => (await reasons()).includes("sync of products"));
    expect(await reasons()).toContain("replicator tables add products");
    const tables = async () =>
      (await running.get("/status")).body.tables as {
        table: string;
        mode: string;
        trouble: string | null;
        last_sync: string | null;
        next_sync: string | null;
        last_rows: number;
      }[];
    const products = (await tables()).find(({ table }) => table === "products");
    expect(products?.mode).toBe("periodic");
    expect(String(products?.trouble)).toContain("products");
    expect(running.log().split("sync of products: Cannot").length - 1).toBeLessThanOrEqual(1);
    await a.sql`ALTER TABLE hidden RENAME TO products`;
    await a.sql`INSERT INTO products VALUES (1, 'back', 1)`;
    await until("it is ready again", async () => (await running.get("/ready")).status === 200);
    await pollNow(running, "products");
    await untilEqual([a, b], BOTH);
    await until("/status shows the runs", async () => {
      const found = (await tables()).find(({ table }) => table === "products");
      return found?.trouble === null && found.last_sync !== null && found.next_sync !== null;
    });
    expect((await pollNow(running, "nothing")).body).toEqual({
      error: "this process does not poll such a table",
      tables: ["products", "categories"],
    });
  });
});
