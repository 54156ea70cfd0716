/** The data generator: every table of the source designs, parents first, at a rate and as fast as it goes. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { openAdmin } from "../../adapters/postgres/admin/admin.ts";
import type { Database } from "../../adapters/postgres/connection.ts";
import { type Admin, GENERATED_TABLES } from "../../src/core/admin.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { application, script } from "../support/target_fixture.ts";

setDefaultTimeout(120_000);
const { signal } = new AbortController();

describeWith("postgres", "the generator", () => {
  let db: Database & { url: string };
  let admin: Admin;
  beforeAll(async () => {
    db = await application(await sharedPostgres());
    admin = openAdmin({ url: db.url, max: 6, logger: silentLogger });
  });
  afterAll(async () => {
    await admin?.close();
    await db?.close();
  });
  const count = async (text: string) => Number((await db.query(`SELECT (${text})::text AS n`))[0]?.n);
  /** Until this many changes are made. */
  const generate = async (changes: number, options: Partial<Parameters<Admin["generate"]>[0]> = {}) => {
    const stop = new AbortController();
    const totals = await admin.generate(
      {
        rate: null,
        connections: 2,
        tables: GENERATED_TABLES,
        onProgress: ({ inserted, updated, deleted }) => {
          if (inserted + updated + deleted >= changes) stop.abort();
        },
        ...options,
      },
      stop.signal,
    );
    return totals;
  };

  test("asked for a child it makes the parents too, and leaves the others alone", async () => {
    await admin.prepareGenerator(signal, ["products"]);
    expect((await admin.listTables(signal)).map(({ table }) => table)).toEqual(["categories", "products"]);
    await generate(1, { tables: ["products"] });
    expect(await count("SELECT count(*) FROM categories")).toBeGreaterThan(0);
    expect(
      await count("SELECT count(*) FROM pg_class WHERE relname = 'users' AND relnamespace = 'public'::regnamespace"),
    ).toBe(0);
  });

  test("all tables are written, with updates, deletes and soft deletes, and every change is captured and counted", async () => {
    await script(db, `TRUNCATE products, categories; TRUNCATE "replicator".queue`);
    await admin.prepareGenerator(signal, GENERATED_TABLES);
    expect(await admin.prepareGenerator(signal, GENERATED_TABLES)).toEqual([]);
    const totals = await generate(20_000);
    expect(await count(`SELECT sum(rows) FROM "replicator".queue`)).toBe(
      totals.inserted + totals.updated + totals.deleted,
    );
    for (const operation of ["I", "U", "D"]) {
      const of = { I: totals.inserted, U: totals.updated, D: totals.deleted }[operation];
      expect(
        await count(`SELECT coalesce(sum(rows), 0) FROM "replicator".queue WHERE operation = '${operation}'`),
      ).toBe(of ?? -1);
      expect(of).toBeGreaterThan(0);
    }
    for (const table of GENERATED_TABLES) expect(await count(`SELECT count(*) FROM ${table}`)).toBeGreaterThan(0);
    // A product that was taken off keeps its row.
    expect(await count("SELECT count(*) FROM products WHERE deleted_at IS NOT NULL")).toBeGreaterThan(0);
    expect(await count("SELECT count(*) FROM products WHERE category_id IS NOT NULL")).toBeGreaterThan(0);
    expect(await count("SELECT count(*) FROM payments WHERE status = 'paid'")).toBeGreaterThan(0);
  });

  test("a table is added with the options it is configured with", async () => {
    const other = await application(await sharedPostgres());
    const polling = openAdmin({ url: other.url, logger: silentLogger });
    await polling.prepareGenerator(signal, ["products"], (table) => (table === "products" ? { capture: "none" } : {}));
    expect((await polling.listTables(signal)).map(({ table, capture }) => `${table} ${capture}`)).toEqual([
      "categories row",
      "products none",
    ]);
    await polling.close();
    await other.close();
  });

  test("two generators at once draw keys of their own", async () => {
    await Promise.all([generate(4_000), generate(4_000)]);
  });

  test("without a rate it makes many more changes in as many seconds than with a small one", async () => {
    const slow = await generate(1, { rate: 20, connections: 1 });
    const fast = await generate(1, { rate: null });
    expect(fast.inserted).toBeGreaterThan(4 * slow.inserted);
  });

  test("tables of somebody else are not written to", async () => {
    const other = await application(await sharedPostgres(), "CREATE TABLE orders (id uuid PRIMARY KEY)");
    const wrong = openAdmin({ url: other.url, logger: silentLogger });
    await expect(wrong.prepareGenerator(signal, ["orders"])).rejects.toMatchObject({
      code: "generate.foreign_tables",
      message: expect.stringContaining("orders.user_id"),
    });
    await wrong.close();
    await other.close();
  });
});
