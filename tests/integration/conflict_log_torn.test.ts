import { afterAll, describe, expect, test } from "bun:test";
import { openAdmin } from "../../adapters/postgres/admin/admin.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { chunk, MODES, openTarget, row, script, setUp, type Target } from "../support/target_fixture.ts";

const SHOP = `CREATE TABLE users (id int PRIMARY KEY, name text);
CREATE TABLE payments (id int PRIMARY KEY, email text UNIQUE);${setUp("users", "payments")}`;
const SOONER = { at: "2020-01-01T00:00:00+00:00" };

describeWith("postgres", "Conflict log as a whole", () => {
  const opened: Target[] = [];
  const open = async (...args: Parameters<typeof openTarget>) => {
    const target = await openTarget(...args);
    opened.push(target);
    return target;
  };
  afterAll(async () => {
    for (const target of opened) await target.close();
  });
  const torn = (target: Target) =>
    target.column("SELECT DISTINCT transaction_id || ' ' || torn FROM conflict_log ORDER BY 1");

  for (const mode of MODES) {
    describe(`in ${mode} mode`, () => {
      test("a transaction whose rows in one table lost while those in another were applied is torn, in one group", async () => {
        const target = await open(SHOP, mode);
        await script(target.db, "INSERT INTO users VALUES (1, 'here'), (2, 'here'), (3, 'here')");
        const outcome = await target.feed.apply(
          chunk("users", "INSERT", [row(1, { id: 1, name: "t" }, SOONER)], { transaction: "11" }),
          chunk("payments", "INSERT", [row(1, { id: 1, email: "a" })], { transaction: "11" }),
          // All of it lost, all of it applied: whole.
          chunk("users", "INSERT", [row(1, { id: 2, name: "t" }, SOONER)], { transaction: "12" }),
          chunk("users", "INSERT", [row(1, { id: 3, name: "t" }, { at: new Date().toISOString() })], {
            transaction: "13",
          }),
          chunk("payments", "INSERT", [row(1, { id: 2, email: "b" })], { transaction: "13" }),
        );
        expect(outcome).toMatchObject({ torn: 1 });
        expect(await torn(target)).toEqual(["11 true", "12 false", "13 false"]);
        expect(outcome.conflicts).toEqual([
          { table: "users", policy: "version", winner: "incoming", lines: 1 },
          { table: "users", policy: "version", winner: "local", lines: 2 },
        ]);
      });

      test("a transaction of which a row had come before is not torn by that", async () => {
        const target = await open(SHOP, mode);
        const twice = row(1, { id: 1, name: "t" }, SOONER);
        await target.feed.apply(chunk("users", "INSERT", [twice]));
        await script(target.db, "INSERT INTO users VALUES (2, 'here')");
        const later = { at: new Date(Date.now() + 60_000).toISOString() };
        const outcome = await target.feed.apply(
          chunk("users", "INSERT", [twice, row(1, { id: 2, name: "t" }, later)], { transaction: "41" }),
          chunk("payments", "INSERT", [row(1, { id: 1, email: "a" })], { transaction: "41" }),
        );
        expect(outcome).toMatchObject({ beaten: 1, conflicts: [{ winner: "incoming" }] });
        expect(outcome.torn).toBeUndefined();
        expect(await torn(target)).toEqual(["41 false"]);
      });

      test("a transaction that arrives in several groups is torn by what one of them lost", async () => {
        const target = await open(SHOP, mode);
        await script(target.db, "INSERT INTO users VALUES (1, 'here'), (2, 'here')");
        const of = (table: string, values: object, transaction: string) =>
          target.feed.batch([chunk(table, "INSERT", [row(1, { ...values }, SOONER)], { transaction })]);
        const outcome = await target.feed.groups([
          [of("users", { id: 1, name: "t" }, "21")],
          [of("payments", { id: 1, email: "a" }, "21")],
          [of("users", { id: 2, name: "t" }, "22")],
        ]);
        expect(outcome).toMatchObject({ torn: 1, beaten: 2, applied: 1 });
        expect(await torn(target)).toEqual(["21 true", "22 false"]);
      });

      test("a transaction of which one row was refused by a unique value is torn", async () => {
        const target = await open(SHOP, mode);
        await script(target.db, "INSERT INTO payments VALUES (9, 'a'); UPDATE payments SET email = 'a'");
        const outcome = await target.feed.apply(
          chunk("users", "INSERT", [row(1, { id: 1, name: "t" })], { transaction: "31" }),
          chunk("payments", "INSERT", [row(1, { id: 1, email: "a" })], { transaction: "31" }),
        );
        expect(outcome).toMatchObject({ overridden: 1, torn: 1 });
        expect(await torn(target)).toEqual(["31 true"]);
      });
    });
  }

  test("what is older than the retention goes, a batch at a time; the rest stays", async () => {
    const target = await open(SHOP, "auto", { conflictRetentionMs: 3_600_000 });
    await script(
      target.db,
      `INSERT INTO conflict_log (occurred_at, source_contour, schema_name, table_name, record_id, policy, winner, reason)
       SELECT now() - n * interval '1 min', 'active', 'public', 'users', n, 'version', 'local', 'test' FROM generate_series(1, 1200) n`,
    );
    expect(await target.store.trimConflictLog()).toBe(1_000);
    expect(await target.store.trimConflictLog()).toBe(141);
    expect(await target.store.trimConflictLog()).toBe(0);
    expect(await target.column("SELECT max(record_id::int) FROM conflict_log")).toEqual(["59"]);
    expect(await (await target.another({ conflictRetentionMs: undefined })).trimConflictLog()).toBe(0);
  });

  test("the log is counted one by one while it is small, and estimated when it is large", async () => {
    const target = await open(SHOP);
    const fill = (lines: number) =>
      script(
        target.db,
        `INSERT INTO conflict_log (source_contour, schema_name, table_name, record_id, policy, winner, reason)
         SELECT 'active', 'public', 'users', n, 'version', 'local', 'test' FROM generate_series(1, ${lines}) n`,
      );
    await fill(9_999);
    expect(await target.store.counts()).toMatchObject({ conflicts: 9_999 });
    await fill(20_000);
    expect(await target.store.counts()).toMatchObject({ conflicts: 10_001 });
    await script(target.db, "ANALYZE replicator.conflict_log");
    expect(await target.store.counts()).toMatchObject({ conflicts: 29_999 });
  });

  test("conflicts are listed newest first and shown by column, digit for digit", async () => {
    const target = await open(`CREATE TABLE users (id int PRIMARY KEY, n numeric, j json, tags text[], at timestamptz);
CREATE TABLE "Odd Name" (id int PRIMARY KEY);${setUp("users", '"Odd Name"')}
INSERT INTO users VALUES (1, 1.10, '{"a":  1}', '{a,b}', '2026-01-01'); INSERT INTO "Odd Name" VALUES (1);`);
    const values = { id: 1, n: null, j: '{"a":  1}', tags: "{a,b}", at: "2026-01-01T00:00:00+00:00" };
    await target.feed.apply(
      chunk("users", "INSERT", [row(1, values, SOONER).replace('"n":null', '"n":12345678901234567890.10')]),
      chunk("Odd Name", "INSERT", [row(1, { id: 1 }, SOONER)]),
    );
    const admin = openAdmin({ url: target.db.url, logger: silentLogger });
    const signal = AbortSignal.timeout(10_000);
    try {
      const all = await admin.conflicts({ table: null, sinceMs: 60_000 }, 10, signal);
      expect(all.map(({ id }) => id)).toEqual([...all.map(({ id }) => id)].sort((a, b) => b - a));
      expect(all.length).toBe(2);
      expect((await admin.conflicts({ table: null, sinceMs: null }, 1, signal)).length).toBe(1);
      expect(await admin.conflicts({ table: null, sinceMs: 0 }, 10, signal)).toEqual([]);
      expect(await admin.conflicts({ table: '"Odd Name"', sinceMs: null }, 10, signal)).toMatchObject([
        { table: '"Odd Name"', winner: "local", source_contour: "active", override: null, torn: false },
      ]);
      const [line] = await admin.conflicts({ table: "users", sinceMs: null }, 10, signal);
      const { columns, local_row } = await admin.conflictDetail(String(line?.id), signal);
      expect(columns.filter(({ differs }) => differs).map(({ column }) => column)).toEqual([
        "n",
        "updated_at",
        "updated_by",
      ]);
      expect(columns.find(({ column }) => column === "n")).toEqual({
        column: "n",
        local: "1.10",
        incoming: "12345678901234567890.10",
        differs: true,
      });
      expect(local_row).toContain('"n":1.10');
      await expect(admin.conflictDetail("999", signal)).rejects.toMatchObject({
        code: "conflicts.unknown",
        fault: "input",
      });
      await expect(admin.conflicts({ table: "no table", sinceMs: null }, 1, signal)).rejects.toMatchObject({
        code: "conflicts.bad_table",
      });
    } finally {
      await admin.close();
    }
  });

  for (const major of [14, 18] as const) {
    test(`PostgreSQL ${major}: a conflict is found, logged and decided`, async () => {
      const target = await open(SHOP, "auto", { server: await sharedPostgres(major) });
      await script(target.db, "INSERT INTO users VALUES (1, 'here'), (2, 'x'); DELETE FROM users WHERE id = 2");
      await target.feed.apply(
        chunk("users", "INSERT", [row(1, { id: 1, name: "a" }, SOONER), row(2, { id: 1, name: "b" }, SOONER)]),
        chunk("users", "UPDATE", [row(2, { id: 2, name: "there" }, SOONER)]),
        chunk("users", "DELETE", [row(1, { id: 1 }, SOONER)]),
      );
      expect(
        await target.column("SELECT record_id || ' ' || winner || ' ' || reason FROM conflict_log ORDER BY 1"),
      ).toEqual([
        "1 local deleted there, later updated_at",
        "1 local later updated_at",
        "2 local deleted here, later updated_at",
      ]);
      expect(await target.column("SELECT name FROM users")).toEqual(["b"]);
    });
  }
});
