/** `check` on a database somebody has broken: each finding comes with what mends it, and doing that mends it. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import postgres, { type Sql } from "postgres";
import { openAdmin } from "../../adapters/postgres/admin/admin.ts";
import type { Admin, Expectations, Finding } from "../../src/core/admin.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";

const { signal } = new AbortController();
const columns = { version: "version", updated_at: "updated_at", updated_by: "updated_by" };
const EXPECTED: Expectations = {
  contour: "a",
  contours: ["a"],
  roles: ["publisher", "consumer"],
  session: "auto",
  tables: [],
  queueWarnBytes: 1e9,
};

describeWith("postgres", "check of a broken database", () => {
  let url: string;
  let sql: Sql;
  let admin: Admin;
  beforeAll(async () => {
    url = await freshDatabase(await sharedPostgres());
    sql = postgres(url, { max: 1, onnotice: () => undefined });
    admin = openAdmin({ url, logger: silentLogger });
    await admin.setup({ contour: "a", compatSchema: "public", columns }, signal);
    await sql`CREATE TABLE by_row (id int PRIMARY KEY, v text)`;
    await sql`CREATE TABLE by_statement (id int PRIMARY KEY, v text)`;
    await admin.addTable("by_row", { capture: "row" }, false, signal);
    await admin.addTable("by_statement", { capture: "statement" }, false, signal);
  }, 60_000);
  afterAll(async () => {
    await admin?.close();
    await sql?.end({ timeout: 2 });
  });
  const serious = async (of = admin): Promise<readonly Finding[]> =>
    (await of.check(EXPECTED, signal)).filter(({ severity }) => severity !== "info");

  test("I1: any one trigger that is missing or disabled is found, and the command given makes it anew", async () => {
    for (const table of ["by_row", "by_statement"]) {
      const triggers = await sql`SELECT tgname FROM pg_trigger WHERE tgrelid = ${table}::regclass AND NOT tgisinternal`;
      expect(triggers.length).toBeGreaterThanOrEqual(7);
      for (const [n, { tgname }] of triggers.entries()) {
        expect(await serious()).toEqual([]);
        const broken = n % 2 === 0 ? "DROP TRIGGER $ ON @" : "ALTER TABLE @ DISABLE TRIGGER $";
        await sql.unsafe(broken.replace("$", tgname).replace("@", table));
        expect(await serious()).toMatchObject([
          { severity: "blocking", code: "tables.stale", remedy: `replicator tables add ${table}` },
        ]);
        await admin.addTable(table, {}, false, signal);
      }
      expect(await serious()).toEqual([]);
    }
  }, 60_000);

  test("a trigger of the user's that sorts after ours is told with the command that renames it", async () => {
    await sql.unsafe(
      "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'; CREATE TRIGGER zzz_touch BEFORE UPDATE ON by_row FOR EACH ROW EXECUTE FUNCTION touch()",
    );
    const [finding] = await serious();
    expect(finding?.message).toContain("zzz_touch");
    await sql.unsafe(String(finding?.remedy));
    expect(await serious()).toEqual([]);
  });

  test("a table dropped under replication is told, and can be taken out by name", async () => {
    await sql.unsafe('CREATE TABLE "Gone Soon" (id int PRIMARY KEY)');
    await admin.addTable('"Gone Soon"', {}, false, signal);
    await sql.unsafe(`INSERT INTO "Gone Soon" VALUES (1); DROP TABLE "Gone Soon"`);
    const [finding] = await serious();
    expect(finding).toMatchObject({
      code: "tables.stale",
      remedy: expect.stringContaining('tables remove "Gone Soon"'),
    });
    expect(await admin.removeTable('"Gone Soon"', false, signal)).toEqual([
      'public."Gone Soon": no longer replicated; the table itself is gone',
    ]);
    expect(await serious()).toEqual([]);
    expect((await admin.listTables(signal)).map(({ table }) => table)).toEqual(["by_row", "by_statement"]);
    await expect(admin.removeTable('"Gone Soon"', false, signal)).rejects.toMatchObject({ code: "tables.missing" });
  });

  test("a role without rights is a finding that names the role and the grant", async () => {
    const role = `nobody_${process.pid}`;
    await sql.unsafe(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`);
    const address = new URL(url);
    [address.username, address.password] = [role, "secret"];
    const outsider = openAdmin({ url: address.href, logger: silentLogger });
    try {
      expect(await serious(outsider)).toMatchObject([
        {
          severity: "blocking",
          code: "database.not_authorized",
          remedy: expect.stringContaining(`GRANT replicator_publisher, replicator_consumer TO ${role}`),
        },
      ]);
    } finally {
      await outsider.close();
    }
  });

  test("generate writes into no table of somebody else's", async () => {
    await sql`CREATE TABLE users (id int PRIMARY KEY, login text)`;
    await expect(admin.prepareGenerator(signal)).rejects.toMatchObject({
      code: "generate.foreign_tables",
      fault: "environment",
      message: expect.stringContaining("users.name, users.email"),
    });
    expect(await sql`SELECT to_regclass('payments') AS made`).toMatchObject([{ made: null }]);
  });
});
