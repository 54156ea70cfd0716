/** Types that differ between contours (docs/schema_changes.md): no value arrives changed, none is lost. */
import { afterEach, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { openSites, type Sites } from "../support/two_sites.ts";

/** A type here, a wider one at the source; a value of the wider type that fits, and one that does not. */
const WIDENED: readonly (readonly [narrow: string, wide: string, fits: string, not: string])[] = [
  ["smallint", "integer", "32767", "32768"],
  ["integer", "bigint", "-2147483648", "2147483648"],
  ["integer", "numeric", "7", "7.5"],
  ["bigint", "numeric", "7", "9223372036854775808"],
  ["numeric(6,2)", "numeric(8,2)", "1234.56", "123456.78"],
  ["numeric(6,2)", "numeric(8,4)", "1234.5600", "12.3456"],
  ["numeric(6,2)", "numeric", "'NaN'", "0.001"],
  ["real", "double precision", "0.5", "0.1234567890123"],
  ["real", "numeric", "0.50", "16777217"],
  ["varchar(3)", "text", "'abc'", "'abcd'"],
  ["char(3)", "varchar(5)", "'abc'", "'abcd'"],
  ["bit(3)", "bit varying", "B'101'", "B'1011'"],
  ["date", "timestamp", "'infinity'", "'2026-01-01 10:00'"],
  ["timestamp(0)", "timestamp", "'2026-01-01 10:00:00'", "'2026-01-01 10:00:00.7'"],
  ["timestamptz(3)", "timestamptz", "'2026-01-01 10:00:00.123+05:45'", "'2026-01-01 10:00:00.1234+00'"],
  ["time(0)", "time", "'10:00:00'", "'10:00:00.7'"],
  ["timetz(0)", "timetz", "'10:00:00+03'", "'10:00:00.7+03'"],
  ["interval(0)", "interval", "'1 year 2 mons 3 days 04:05:06'", "'1.5 seconds'"],
  ["interval year to month", "interval", "'1 year 2 mons'", "'3 days'"],
];
const column = (n: number) => `v${n}`;

for (const variant of [
  { capture: "row", kind: "frames" },
  { capture: "statement", kind: "events" },
] as const) {
  describeWith("postgres", `types that differ, ${variant.capture} form, ${variant.kind}`, () => {
    let sites: Sites | null = null;
    afterEach(async () => {
      await sites?.close();
      sites = null;
    });
    const open = async (ddl: string, tables: readonly string[] = ["t"]): Promise<Sites> => {
      sites = await openSites({ ddl, tables, ...variant });
      return sites;
    };

    for (const special of [false, true]) {
      test(`I7: widened at the source first: a value that does not fit waits, unchanged, until it does (${special ? "with" : "without"} columns that travel as text)`, async () => {
        const narrow = WIDENED.map(([type], n) => `${column(n)} ${type}`);
        const s = await open(
          `CREATE TABLE t (id int PRIMARY KEY, ${narrow.join(", ")}${special ? ", tags text[]" : ""})`,
        );
        await s.source("INSERT INTO t (id) VALUES (1)");
        const widen = (n: number) => `ALTER TABLE t ALTER COLUMN ${column(n)} TYPE ${WIDENED[n]?.[1]}`;
        await s.source(WIDENED.map((_, n) => widen(n)).join(";"));
        await s.source(
          WIDENED.map(
            ([, , fits, not], n) =>
              `INSERT INTO t (id, ${column(n)}) VALUES (${100 + n}, ${fits}), (${200 + n}, ${not})`,
          ).join(";"),
        );
        expect(await s.carry()).toMatchObject({ applied: 1 + WIDENED.length, parked: WIDENED.length });
        const waiting = await s.rows("SELECT record_id FROM replicator.inbox ORDER BY record_id::int");
        expect(waiting.map(({ record_id }) => Number(record_id) - 200)).toEqual([...WIDENED.keys()]);
        expect(await s.retry()).toBe(WIDENED.length);
        await s.there(WIDENED.map((_, n) => widen(n)).join(";"));
        expect(await s.retry()).toBe(0);
        for (const [n, [, wide, fits, not]] of WIDENED.entries()) {
          const [row] = await s.rows(
            `SELECT bool_and(CASE WHEN id < 200 THEN ${column(n)} = (${fits})::${wide} ELSE ${column(n)} = (${not})::${wide} END) AS same
             FROM t WHERE id IN (${100 + n}, ${200 + n}) HAVING count(${column(n)}) = 2`,
          );
          expect([wide, fits, not, row?.same]).toEqual([wide, fits, not, "t"]);
        }
      }, 60_000);
    }

    test("widened here first: everything fits", async () => {
      const narrow = WIDENED.map(([type], n) => `${column(n)} ${type}`);
      const s = await open(`CREATE TABLE t (id int PRIMARY KEY, ${narrow.join(", ")})`);
      await s.there(WIDENED.map(([, wide], n) => `ALTER TABLE t ALTER COLUMN ${column(n)} TYPE ${wide}`).join(";"));
      await s.source(
        WIDENED.map(([, , fits], n) => `INSERT INTO t (id, ${column(n)}) VALUES (${n}, ${fits})`).join(";"),
      );
      expect(await s.carry()).toMatchObject({ applied: WIDENED.length, parked: 0 });
      for (const [n, [type, wide, fits]] of WIDENED.entries()) {
        const [row] = await s.rows(`SELECT ${column(n)} = (${fits})::${type}::${wide} AS same FROM t WHERE id = ${n}`);
        expect([type, wide, row?.same]).toEqual([type, wide, "t"]);
      }
    });

    test("a key widened at the source, then here: deletions and new rows of large keys arrive", async () => {
      const s = await open("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'one'), (2, 'two')");
      await expect(s.source("ALTER TABLE t ALTER COLUMN id TYPE bigint")).rejects.toThrow(
        "used in a trigger definition",
      );
      const widen = `BEGIN; DROP TRIGGER IF EXISTS zz_replicator_2_change_key ON t; DROP TRIGGER IF EXISTS zz_replicator_4_bury_key ON t;
        ALTER TABLE t ALTER COLUMN id TYPE bigint; SELECT replicator.refresh_table('t'); COMMIT`;
      await s.source(widen);
      await s.source(`INSERT INTO t VALUES (3000000001, 'large'), (3000000002, 'gone'); DELETE FROM t WHERE id = 3000000002;
        UPDATE t SET id = 3000000003 WHERE id = 2; UPDATE t SET a = 'again' WHERE id = 1`);
      const outcome = await s.carry();
      expect(outcome.parked).toBeGreaterThan(0);
      expect((await s.parked()).every(({ code }) => code === "22003")).toBe(true);
      await s.there(widen);
      expect(await s.retry()).toBe(0);
      expect(await s.rows("SELECT id, a FROM t ORDER BY id")).toEqual([
        { id: "1", a: "again" },
        { id: "3000000001", a: "large" },
        { id: "3000000003", a: "two" },
      ]);
    });

    test("an enum label added at the source first: rows with it wait until it is here", async () => {
      const s = await open("CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id int PRIMARY KEY, m mood, ms mood[])");
      await s.source("ALTER TYPE mood ADD VALUE 'о-кей, \"x\"'");
      await s.source(
        `INSERT INTO t VALUES (1, 'sad', '{sad}'), (2, 'о-кей, "x"', NULL), (3, NULL, ARRAY['sad', 'о-кей, "x"']::mood[])`,
      );
      expect(await s.carry()).toMatchObject({ applied: 1, parked: 2 });
      expect((await s.parked()).map(({ code }) => code)).toEqual(["22P02", "22P02"]);
      await s.there("ALTER TYPE mood ADD VALUE 'о-кей, \"x\"'");
      expect(await s.retry()).toBe(0);
      expect(await s.rows("SELECT m, ms[2] AS second FROM t WHERE id > 1 ORDER BY id")).toEqual([
        { m: 'о-кей, "x"', second: null },
        { m: null, second: 'о-кей, "x"' },
      ]);
    });
  });
}
