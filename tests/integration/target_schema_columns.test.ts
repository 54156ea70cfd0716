/** Columns and tables that differ between contours (docs/schema_changes.md): what is captured there becomes what here. */
import { afterEach, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { openSites, type Sites } from "../support/two_sites.ts";

const DDL = `CREATE TABLE t (id int PRIMARY KEY, a text, n int, tags text[]);
INSERT INTO t VALUES (1, 'one', 1, '{x}'), (2, 'two', 2, '{x}'), (3, 'three', 3, '{x}')`;
/** A row of each kind of change, at the source. */
const CHANGES = "UPDATE t SET n = 10 WHERE id = 1; INSERT INTO t (id, n) VALUES (4, 40); DELETE FROM t WHERE id = 2";

for (const variant of [
  { capture: "row", kind: "frames" },
  { capture: "statement", kind: "events" },
] as const) {
  describeWith("postgres", `columns that differ, ${variant.capture} form, ${variant.kind}`, () => {
    let sites: Sites | null = null;
    afterEach(async () => {
      await sites?.close();
      sites = null;
    });
    const open = async (ddl = DDL): Promise<Sites> => {
      sites = await openSites({ ddl, tables: ["t"], ...variant });
      return sites;
    };
    /** id: the other columns asked for. */
    const held = async ({ rows }: Sites, columns: string) =>
      Object.fromEntries(
        (await rows(`SELECT id, ${columns} FROM t ORDER BY id`)).map(({ id, ...row }) => [
          id,
          Object.values(row).join(" "),
        ]),
      );
    const codes = async ({ parked }: Sites) => (await parked()).map(({ code }) => code);

    test("added at the source first: changed rows wait for it, deletions do not, and after the DDL nothing is missing", async () => {
      const s = await open();
      await s.source("ALTER TABLE t ADD COLUMN more int DEFAULT 5");
      await s.source(CHANGES);
      expect(await s.carry()).toMatchObject({ applied: 1, parked: 2 });
      expect(await codes(s)).toEqual(["apply.unknown_column", "apply.unknown_column"]);
      expect(await held(s, "n")).toEqual({ 1: "1", 3: "3" });
      // Also when the functions were made anew, and also where the value is NULL.
      await s.source("SELECT replicator.refresh_stale_tables(); UPDATE t SET more = NULL WHERE id = 3");
      expect(await s.carry()).toMatchObject({ parked: 1 });
      expect(await s.retry()).toBe(3);
      await s.there("ALTER TABLE t ADD COLUMN more int DEFAULT 5");
      expect(await s.retry()).toBe(0);
      expect(await held(s, "n, more")).toEqual({ 1: "10 5", 3: "3 ", 4: "40 5" });
    });

    test("added here first, nullable or with a default: rows from there leave it as it is, or take the default", async () => {
      const s = await open();
      await s.there("ALTER TABLE t ADD COLUMN plain int, ADD COLUMN filled int NOT NULL DEFAULT 7");
      await s.there("SET replicator.capture = off; UPDATE t SET plain = 8, filled = 9");
      await s.source(CHANGES);
      expect(await s.carry()).toMatchObject({ applied: 3, parked: 0 });
      expect(await held(s, "n, plain, filled")).toEqual({ 1: "10 8 9", 3: "3 8 9", 4: "40  7" });
      await s.source("ALTER TABLE t ADD COLUMN plain int, ADD COLUMN filled int NOT NULL DEFAULT 1");
      await s.source("UPDATE t SET plain = 100 WHERE id = 4");
      expect(await s.carry()).toMatchObject({ applied: 1 });
      expect((await held(s, "n, plain, filled"))[4]).toBe("40 100 1");
    });

    test("added here first, NOT NULL without a default: rows from there wait until it may be left out, or comes along", async () => {
      const s = await open();
      await s.there(
        "ALTER TABLE t ADD COLUMN must int NOT NULL DEFAULT 7; ALTER TABLE t ALTER COLUMN must DROP DEFAULT",
      );
      await s.source(CHANGES);
      expect(await s.carry()).toMatchObject({ applied: 1, parked: 2 });
      expect(await codes(s)).toEqual(["23502", "23502"]);
      await s.source("ALTER TABLE t ADD COLUMN must int NOT NULL DEFAULT 1; UPDATE t SET must = 2 WHERE id = 1");
      expect(await s.carry()).toMatchObject({ applied: 1 });
      // What came later has taken the place of one of the two.
      expect(await s.retry()).toBe(1);
      await s.there("ALTER TABLE t ALTER COLUMN must SET DEFAULT 0");
      expect(await s.retry()).toBe(0);
      expect(await held(s, "n, must")).toEqual({ 1: "10 2", 3: "3 7", 4: "40 0" });
    });

    test("only there: exclude_columns at the source lets rows through from then on", async () => {
      const s = await open();
      await s.there("ALTER TABLE t DROP COLUMN a");
      await s.source(CHANGES);
      expect(await s.carry()).toMatchObject({ parked: 2 });
      await s.source(`SELECT setup_table_for_replication('t', '{"exclude_columns":["a"]}')`);
      await s.source("UPDATE t SET n = n + 1");
      expect(await s.carry()).toMatchObject({ applied: 3, parked: 0 });
      expect(await s.retry()).toBe(0);
      expect(await held(s, "n")).toEqual({ 1: "11", 3: "4", 4: "41" });
    });

    test("renamed at the source first: changed rows wait under the new name until it is renamed here", async () => {
      const s = await open();
      await s.source("ALTER TABLE t RENAME COLUMN a TO b");
      await s.source("UPDATE t SET b = 'new' WHERE id = 1");
      await s.source(CHANGES);
      expect(await s.carry()).toMatchObject({ applied: 1, parked: 3 });
      expect(new Set(await codes(s))).toEqual(new Set(["apply.unknown_column"]));
      await s.there("ALTER TABLE t RENAME COLUMN a TO b");
      expect(await s.retry()).toBe(0);
      expect(await held(s, "b, n")).toEqual({ 1: "new 10", 3: "three 3", 4: " 40" });
    });

    test("renamed here first: rows wait under the old name; newer changes of them, or the old name, let them go", async () => {
      const s = await open();
      await s.there("ALTER TABLE t RENAME COLUMN a TO b");
      await s.source(CHANGES);
      expect(await s.carry()).toMatchObject({ applied: 1, parked: 2 });
      await s.source("ALTER TABLE t RENAME COLUMN a TO b");
      await s.source("UPDATE t SET b = 'new' WHERE id = 1");
      expect(await s.carry()).toMatchObject({ applied: 1, parked: 0 });
      expect(await s.retry()).toBe(1);
      await s.there("ALTER TABLE t RENAME COLUMN b TO a");
      expect(await s.retry()).toBe(0);
      await s.there("ALTER TABLE t RENAME COLUMN a TO b");
      expect(await held(s, "b, n")).toEqual({ 1: "new 10", 3: "three 3", 4: " 40" });
    });

    test("dropped at the source first: its values stay here until it is dropped here", async () => {
      const s = await open();
      await s.source("ALTER TABLE t DROP COLUMN a");
      await s.source(CHANGES);
      expect(await s.carry()).toMatchObject({ applied: 3, parked: 0 });
      expect(await held(s, "a, n")).toEqual({ 1: "one 10", 3: "three 3", 4: " 40" });
      await s.there("ALTER TABLE t DROP COLUMN a");
      await s.source("UPDATE t SET n = 11 WHERE id = 1");
      expect(await s.carry()).toMatchObject({ applied: 1, parked: 0 });
    });

    test("dropped here first: rows that carry it wait, and newer changes without it take their place", async () => {
      const s = await open();
      await s.there("ALTER TABLE t DROP COLUMN a");
      await s.source(CHANGES);
      expect(await s.carry()).toMatchObject({ applied: 1, parked: 2 });
      await s.source("ALTER TABLE t DROP COLUMN a");
      await s.source("UPDATE t SET n = n WHERE id IN (1, 4)");
      expect(await s.carry()).toMatchObject({ applied: 2, parked: 0 });
      expect(await s.retry()).toBe(0);
      expect(await held(s, "n")).toEqual({ 1: "10", 3: "3", 4: "40" });
    });

    test("a key column renamed with its setup in one transaction: rows wait until the key is called so here", async () => {
      const s = await open();
      const rename = `BEGIN; ALTER TABLE t RENAME COLUMN id TO pk;
        SELECT setup_table_for_replication('t', '{"primary_key":["pk"]}'); COMMIT`;
      await s.source(rename);
      await s.source("UPDATE t SET n = 10 WHERE pk = 1; UPDATE t SET pk = 4 WHERE pk = 3; DELETE FROM t WHERE pk = 2");
      expect(await s.carry()).toMatchObject({ applied: 0, parked: 4 });
      expect(new Set(await codes(s))).toEqual(new Set(["apply.key_differs"]));
      await s.there(rename);
      expect(await s.retry()).toBe(0);
      expect(await s.rows("SELECT pk, n FROM t ORDER BY pk")).toEqual([
        { pk: "1", n: "10" },
        { pk: "4", n: "3" },
      ]);
    });

    test("a stamp column renamed with its setup in one transaction: writes go on, and arrive", async () => {
      const s = await open();
      await s.source(`BEGIN; ALTER TABLE t RENAME COLUMN version TO "row version";
        SELECT setup_table_for_replication('t', '{"columns":{"version":"row version"}}'); COMMIT`);
      await s.source(CHANGES);
      expect(await s.carry()).toMatchObject({ applied: 3, parked: 0 });
      expect(await held(s, "n, version")).toEqual({ 1: "10 2", 3: "3 1", 4: "40 1" });
    });

    test("a table that is missing here: all its changes wait until it is there and under replication", async () => {
      const s = await open();
      await s.there("SELECT remove_table_from_replication('t'); DROP TABLE t");
      await s.source(CHANGES);
      expect(await s.carry()).toMatchObject({ applied: 0, parked: 3 });
      expect(await codes(s)).toEqual(["apply.unknown_table", "apply.unknown_table", "apply.unknown_table"]);
      await s.there("CREATE TABLE t (id int PRIMARY KEY, a text, n int, tags text[])");
      expect(await s.retry()).toBe(3);
      await s.there("SELECT setup_table_for_replication('t')");
      expect(await s.retry()).toBe(0);
      expect(await held(s, "a, n")).toEqual({ 1: "one 10", 4: " 40" });
    });

    test("generated here and plain there: rows wait until it is plain here", async () => {
      const s = await open();
      await s.there("ALTER TABLE t DROP COLUMN n, ADD COLUMN n int GENERATED ALWAYS AS (id * 2) STORED");
      await s.source("UPDATE t SET n = 10 WHERE id = 1");
      expect(await s.carry()).toMatchObject({ parked: 1 });
      await s.there("ALTER TABLE t ALTER COLUMN n DROP EXPRESSION");
      expect(await s.retry()).toBe(0);
      expect((await held(s, "n"))[1]).toBe("10");
    });
  });
}
