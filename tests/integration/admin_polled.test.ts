/** What `check` and `tables add` say of polled tables. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import postgres, { type Sql } from "postgres";
import { openAdmin } from "../../adapters/postgres/admin/admin.ts";
import type { Admin, Expectations } from "../../src/core/admin.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";

const columns = { version: "version", updated_at: "updated_at", updated_by: "updated_by" };
const { signal } = new AbortController();

describeWith("postgres", "Polled tables, looked at by check", () => {
  let sql: Sql;
  let admin: Admin;
  beforeAll(async () => {
    const url = await freshDatabase(await sharedPostgres());
    sql = postgres(url, { max: 2, onnotice: () => undefined });
    admin = openAdmin({ url, logger: silentLogger });
    await admin.setup({ contour: "a", compatSchema: "public", columns }, signal);
    await sql.unsafe(`CREATE TABLE products (id int PRIMARY KEY, v text);
      CREATE TABLE logs (id int, part int, changed timestamptz DEFAULT now(), who text, PRIMARY KEY (id, part))`);
  }, 60_000);
  afterAll(async () => {
    await admin?.close();
    await sql?.end({ timeout: 2 });
  });
  const find = async (code: string, tables: Expectations["tables"] = []) => {
    const session = "auto";
    const expected = {
      contour: "a",
      contours: ["a"],
      roles: ["publisher"],
      session,
      tables,
      queueWarnBytes: 1e9,
    } as const;
    const found = await admin.check(expected, signal);
    return found
      .filter((one) => one.code === code)
      .map(({ severity, message, remedy }) => `${severity}: ${message} | ${remedy}`);
  };

  test("a table without an index for the poll gets the statement that makes it, and what it costs", async () => {
    expect(await find("tables.poll_index")).toEqual([]);
    await admin.addTable("products", { capture: "none", stamp: "trigger" }, false, signal);
    const [finding = ""] = await find("tables.poll_index");
    expect(finding).toStartWith("info: Table products is polled and no index begins with updated_at");
    expect(finding).toContain("HOT");
    expect(finding).toEndWith("CREATE INDEX CONCURRENTLY ON products (updated_at, id);");
    await sql`INSERT INTO products SELECT g FROM generate_series(1, 10000) g`;
    await sql`ANALYZE products`;
    expect((await find("tables.poll_index"))[0]).toStartWith("warning: ");
    await sql.unsafe((await find("tables.poll_index"))[0]?.split(" | ")[1] ?? "");
    expect(await find("tables.poll_index")).toEqual([]);
  });

  test("an application's stamps have their limits said, and another stamp than configured is found", async () => {
    const mapped = { updated_at: "changed", updated_by: "who" };
    await admin.addTable("logs", { capture: "none", stamp: "application", columns: mapped }, false, signal);
    expect((await find("tables.stamp_application"))[0]).toContain("a write that leaves changed");
    expect((await find("tables.poll_index"))[0]).toEndWith("CREATE INDEX CONCURRENTLY ON logs (changed, id, part);");
    const wanted = { name: "logs", capture: "none", stamp: "trigger" } as const;
    expect((await find("tables.differs", [wanted]))[0]).toContain(
      "stamp is application, the configuration says trigger",
    );
    expect((await find("tables.differs", [{ name: "products", capture: "auto" }]))[0]).toContain("it is polled");
  });

  test("a prepared transaction is named with what ends it", async () => {
    const session = await sql.reserve();
    await session.unsafe("BEGIN; INSERT INTO products VALUES (-1); PREPARE TRANSACTION 'it''s me'").simple();
    session.release();
    const found = await find("database.prepared_transaction");
    await sql.unsafe("ROLLBACK PREPARED 'it''s me'");
    expect(found[0]).toStartWith("info: Transaction 'it''s me' is prepared since ");
    expect(found[0]).toEndWith("COMMIT PREPARED 'it''s me'; or ROLLBACK PREPARED 'it''s me';");
  });
});
