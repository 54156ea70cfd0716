/** check and tables add about sequences of tables that several contours write. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import postgres, { type Sql } from "postgres";
import { openAdmin } from "../../adapters/postgres/admin/admin.ts";
import type { Admin, Expectations } from "../../src/core/admin.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";

const { signal } = new AbortController();
const columns = { version: "version", updated_at: "updated_at", updated_by: "updated_by" };
const EXPECTED: Expectations = {
  contour: "beta",
  contours: ["alpha", "beta", "gamma"],
  roles: ["publisher", "consumer"],
  session: "auto",
  tables: [],
  queueWarnBytes: 1e9,
};
const SECOND_OF_THREE = { sequenceSlot: { place: 2, of: 3 } };

describeWith("postgres", "sequences of tables written at several contours", () => {
  let url: string;
  let sql: Sql;
  let admin: Admin;
  beforeAll(async () => {
    url = await freshDatabase(await sharedPostgres());
    sql = postgres(url, { max: 1, onnotice: () => undefined });
    admin = openAdmin({ url, logger: silentLogger });
    await admin.setup({ contour: "beta", compatSchema: "public", columns }, signal);
  }, 60_000);
  afterAll(async () => {
    await admin?.close();
    await sql?.end({ timeout: 2 });
  });
  const found = async (expected: Expectations = EXPECTED) =>
    (await admin.check(expected, signal)).filter(({ severity }) => severity !== "info");

  test("check gives the statement of this contour's slot, and running it is all there is to do", async () => {
    await sql.unsafe(`CREATE SCHEMA "Sales"; CREATE TABLE "Sales"."Order" (id serial PRIMARY KEY)`);
    await admin.addTable('"Sales"."Order"', {}, false, signal);
    const [finding, ...others] = await found();
    expect(others).toEqual([]);
    expect(finding).toEqual({
      severity: "warning",
      code: "tables.sequence",
      message:
        'Sequence "Sales"."Order_id_seq", which feeds "Sales"."Order".id, may give values that another contour gives too: it counts by 1, which is no multiple of 3, and slot 2/3 is that of "beta"',
      remedy:
        'ALTER SEQUENCE "Sales"."Order_id_seq" START WITH 2 INCREMENT BY 3 RESTART WITH 2; -- or, also while it is written: replicator tables add "Sales"."Order" --sequence-slot 2/3',
    });
    await sql.unsafe(String(finding?.remedy));
    expect(await found()).toEqual([]);
    // What mends one contour is wrong at another.
    expect(await found({ ...EXPECTED, contours: ["beta", "delta", "gamma"] })).toMatchObject([
      { remedy: expect.stringContaining("START WITH 4 INCREMENT BY 3 RESTART WITH 4;") },
    ]);
  });

  test("where one contour writes, the note of a plain sequence is all that check says", async () => {
    await sql`CREATE TABLE plain (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)`;
    await admin.addTable("plain", {}, false, signal);
    expect(await found({ ...EXPECTED, contours: ["beta"] })).toEqual([
      {
        severity: "warning",
        code: "tables.note",
        message:
          "Column id of public.plain takes its values from sequence public.plain_id_seq, which is not replicated; where several contours insert, give each values of its own",
        remedy: "replicator tables add public.plain --sequence-slot <place>/<contours>",
      },
    ]);
  });

  test("tables add with a slot says what it does, in a dry run too, and does it once", async () => {
    const dry = await admin.addTable("plain", SECOND_OF_THREE, true, signal);
    expect(dry.at(-1)).toBe("ALTER SEQUENCE public.plain_id_seq START WITH 2 INCREMENT BY 3 RESTART WITH 2;");
    expect((await found()).map(({ code }) => code)).toEqual(["tables.sequence"]);
    const done = await admin.addTable("plain", SECOND_OF_THREE, false, signal);
    expect(done.slice(1)).toEqual([
      "public.plain: sequence public.plain_id_seq goes on at 2, counting by 3 (slot 2/3)",
    ]);
    expect((await admin.addTable("plain", SECOND_OF_THREE, false, signal)).slice(1)).toEqual([
      "public.plain: sequence public.plain_id_seq gives values of slot 2/3 only",
    ]);
    expect(await found()).toEqual([]);
    await sql`INSERT INTO plain DEFAULT VALUES`;
    await sql`INSERT INTO plain DEFAULT VALUES`;
    expect([...(await sql`SELECT id FROM plain ORDER BY id`)].map(({ id }) => id)).toEqual([2, 5]);
  });

  test("a sequence without room is refused with the remedy, and the table is added all the same", async () => {
    await sql`CREATE TABLE full_up (id smallserial PRIMARY KEY)`;
    await sql`INSERT INTO full_up VALUES (32767)`;
    await expect(admin.addTable("full_up", SECOND_OF_THREE, false, signal)).rejects.toMatchObject({
      code: "tables.unfit",
      message: expect.stringMatching(/^Cannot give slot 2\/3 to the sequences of table full_up: .*go on at 32768/),
      remedy: expect.stringContaining("TYPE bigint"),
    });
    expect((await admin.listTables(signal)).map(({ table }) => table)).toContain("full_up");
    const [finding] = await found();
    await sql.unsafe(String(finding?.remedy));
    expect((await admin.addTable("full_up", SECOND_OF_THREE, false, signal)).at(-1)).toContain("goes on at 32768");
    expect(await found()).toEqual([]);
  });

  test("a role that is not the owner is told that the owner sees more", async () => {
    const role = `other_${process.pid}`;
    await sql.unsafe(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'; GRANT USAGE ON SCHEMA replicator TO ${role};
      GRANT SELECT ON ALL TABLES IN SCHEMA replicator TO ${role};
      GRANT EXECUTE ON FUNCTION replicator.stale_tables(), replicator.columns_digest(oid) TO ${role};
      ALTER SEQUENCE plain_id_seq INCREMENT BY 1`);
    const address = new URL(url);
    [address.username, address.password] = [role, "secret"];
    const other = openAdmin({ url: address.href, logger: silentLogger });
    try {
      const codes = (await other.check(EXPECTED, signal)).map(({ code }) => code);
      expect(codes).toContain("tables.notes_hidden");
      expect(codes).not.toContain("tables.sequence");
    } finally {
      await other.close();
      await sql.unsafe(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });
});
