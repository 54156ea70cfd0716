/** Every kind of refusal names what unblocks it, and is unblocked by just that, without a hand. */
import { afterAll, expect, test } from "bun:test";
import { type PostgresMajor, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { chunk, type Mode, openTarget, row, script, setUp, type Target } from "../support/target_fixture.ts";
import { until } from "../support/until.ts";

interface Refusal {
  readonly name: string;
  /** Makes table t. */
  readonly ddl: string;
  readonly rows: readonly string[];
  readonly code: string;
  readonly remedy: string;
  /** What mends it, where that is not the remedy's own statement. */
  readonly mend?: string;
  readonly mode?: Mode;
}

const NOTE = "; -- or the type it has at contour active";
const one = (values: Record<string, unknown>) => [row(1, { id: 1, ...values })];
const t = (columns: string, after = "") => `CREATE TABLE t (id int PRIMARY KEY${columns}); ${setUp("t")} ${after}`;

const REFUSALS: readonly Refusal[] = [
  {
    name: "a table that is missing",
    ddl: "SELECT 1",
    rows: [row(1, { id: 1, note: "x", n: 1.5, ok: true, "We ird": null })],
    code: "apply.unknown_table",
    remedy:
      'CREATE TABLE t (id bigint, note text, n numeric, ok boolean, "We ird" text, PRIMARY KEY (id)); -- with the types it has at contour active; then run: replicator tables add t',
    mend: `CREATE TABLE t (id bigint, note text, n numeric, ok boolean, "We ird" text, PRIMARY KEY (id)); ${setUp("t")}`,
  },
  {
    name: "a table that is not under replication",
    ddl: "CREATE TABLE t (id int PRIMARY KEY)",
    rows: one({}),
    code: "apply.unknown_table",
    remedy: "replicator tables add t",
    mend: setUp("t"),
  },
  {
    name: "columns that are missing, all at once",
    ddl: t(""),
    rows: one({ nick: "x", Big: 12345678901, yes: true, half: 0.5 }),
    code: "apply.unknown_column",
    remedy:
      'ALTER TABLE t ADD COLUMN nick text, ADD COLUMN "Big" bigint, ADD COLUMN yes boolean, ADD COLUMN half numeric; -- or with the types they have at contour active',
  },
  {
    name: "a column that is generated here",
    ddl: t(", a int, b int GENERATED ALWAYS AS (a * 2) STORED"),
    rows: one({ a: 1, b: 5 }),
    code: "apply.unknown_column",
    remedy: "ALTER TABLE t ALTER COLUMN b DROP EXPRESSION; -- or with the types they have at contour active",
  },
  {
    name: "another primary key",
    ddl: `CREATE TABLE t (id int, part int NOT NULL, PRIMARY KEY (id, part)); ${setUp("t")}`,
    rows: one({ part: 2 }),
    code: "apply.key_differs",
    remedy: `ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id); SELECT setup_table_for_replication('t', '{"primary_key" : ["id"]}')`,
  },
  {
    name: "an extra NOT NULL column",
    ddl: t(", extra int NOT NULL"),
    rows: one({}),
    code: "23502",
    remedy: "ALTER TABLE t ALTER COLUMN extra DROP NOT NULL; -- or SET DEFAULT",
  },
  {
    name: "a CHECK that stands here only",
    ddl: t(", age int CONSTRAINT grown CHECK (age >= 18)"),
    rows: one({ age: 7 }),
    code: "23514",
    remedy: "ALTER TABLE t DROP CONSTRAINT grown; -- CHECK ((age >= 18))",
  },
  {
    name: "a domain's CHECK",
    ddl: `CREATE DOMAIN grade AS int CONSTRAINT small CHECK (VALUE < 7); ${t(", g grade")}`,
    rows: one({ g: 9 }),
    code: "23514",
    remedy: "ALTER DOMAIN grade DROP CONSTRAINT small; -- CHECK ((VALUE < 7))",
  },
  {
    name: "a partition that is missing",
    ddl: `CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t_10 PARTITION OF t FOR VALUES FROM (10) TO (20); ${setUp("t")}`,
    rows: one({}),
    code: "23514",
    remedy: "CREATE TABLE t_default PARTITION OF t DEFAULT; -- or a partition for the row, as at contour active",
  },
  {
    name: "an enum label that is missing",
    ddl: `CREATE TYPE mood AS ENUM ('ok'); ${t(", m mood")}`,
    rows: one({ m: "so'so" }),
    code: "22P02",
    remedy: "ALTER TYPE mood ADD VALUE 'so''so'",
  },
  {
    name: "an enum label that is missing in an array of a domain",
    ddl: `CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('ok'); CREATE DOMAIN s.moods AS s.mood[]; ${t(", m s.moods")}`,
    rows: one({ m: "{ok,sad}" }),
    code: "22P02",
    remedy: "ALTER TYPE s.mood ADD VALUE 'sad'",
  },
  {
    name: "a varchar and a bit string that are too short",
    ddl: t(", a varchar(3), b bit(2), c char(2)"),
    rows: one({ a: "abcd", b: "101", c: "x    " }),
    code: "22001",
    remedy: `ALTER TABLE t ALTER COLUMN a TYPE character varying, ALTER COLUMN b TYPE bit varying${NOTE}`,
  },
  {
    name: "numbers out of range",
    ddl: t(", a smallint, b int, c numeric(4, 2), d bigint, ok smallint"),
    rows: one({ a: 40000, b: 3000000000, c: 100, d: 1, ok: 32767 }),
    code: "22003",
    remedy: `ALTER TABLE t ALTER COLUMN a TYPE integer, ALTER COLUMN b TYPE bigint, ALTER COLUMN c TYPE numeric${NOTE}`,
  },
  {
    name: "a value that is no value of the column's type",
    ddl: t(", n int, other int"),
    rows: one({ other: 7, n: "seven" }),
    code: "22P02",
    remedy: `ALTER TABLE t ALTER COLUMN n TYPE text${NOTE}`,
  },
  {
    name: "a date that is none",
    ddl: t(", d date"),
    rows: one({ d: "32.13.2026" }),
    code: "22008",
    remedy: `ALTER TABLE t ALTER COLUMN d TYPE text${NOTE}`,
  },
  {
    name: "a parent that is missing",
    ddl: `CREATE TABLE p (a int, b int, PRIMARY KEY (a, b)); ${setUp("p")} ${t(", x int, y int, FOREIGN KEY (x, y) REFERENCES p")}`,
    rows: one({ x: 5, y: 6 }),
    code: "23503",
    remedy: "It waits for its parent: p (a, b) = (5, 6)",
    mend: "INSERT INTO p (a, b) VALUES (5, 6)",
  },
  {
    name: "a function that a CHECK's function calls and that is missing",
    ddl: `CREATE FUNCTION fine(int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN public.helper($1) > 0; END'; ${t(", n int CHECK (fine(n))")}`,
    rows: one({ n: 1 }),
    code: "42883",
    remedy: "CREATE FUNCTION public.helper(integer) …; -- as at contour active",
    mend: "CREATE FUNCTION helper(int) RETURNS int LANGUAGE sql AS 'SELECT $1'",
  },
  {
    name: "a function that calls another by a search path",
    ddl: `CREATE FUNCTION helper(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION fine(int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN helper($1) > 0; END'; ${t(", n int CHECK (fine(n))")}`,
    rows: one({ n: 1 }),
    code: "42883",
    remedy:
      "ALTER FUNCTION public.fine(integer) SET search_path TO public; -- helper(integer) stands there, and apply has no search path",
  },
  {
    name: "a table that a generated column's function reads",
    ddl: `CREATE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM 1 FROM public.factor; RETURN $1 * 2; END';
${t(", n int, g int GENERATED ALWAYS AS (twice(n)) STORED")}`,
    rows: one({ n: 1 }),
    code: "42P01",
    remedy: "CREATE TABLE public.factor …; -- as at contour active",
    mend: "CREATE TABLE factor (f int)",
  },
  {
    name: "a trigger of the user's that raises",
    mode: "origin",
    ddl: `CREATE FUNCTION deny() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
${t("", "CREATE TRIGGER denying BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION deny();")}`,
    rows: one({}),
    code: "P0001",
    remedy: "ALTER TABLE t DISABLE TRIGGER denying; -- or consumer.session: replica, which silences it",
  },
  {
    name: "an exclusion constraint that somebody else's row breaks for good",
    ddl: `${t(", a int, EXCLUDE USING btree (a WITH =)")} INSERT INTO t (id, a) VALUES (7, 1);`,
    rows: one({ a: 1 }),
    code: "23P01",
    remedy: "Another row of t here is in the way: change or delete it (t_a_excl: btree (a))",
    mend: "UPDATE t SET a = 2 WHERE id = 7",
  },
];

/** Both modes on one version, the catalogs of the oldest and the newest one in replica mode. */
const WHERE: readonly (readonly [PostgresMajor, Mode])[] = [
  [15, "replica"],
  [15, "origin"],
  [14, "replica"],
  [18, "replica"],
];

for (const [major, mode] of WHERE) {
  describeWith(`postgres:${major}`, `What unblocks a parked change, PostgreSQL ${major} in ${mode} mode`, () => {
    const opened: Target[] = [];
    afterAll(async () => {
      for (const target of opened) await target.close();
    });

    for (const refusal of REFUSALS.filter((one) => (one.mode ?? mode) === mode)) {
      test(`${refusal.name}: is named with its remedy, and heals by it`, async () => {
        const server = await sharedPostgres(major);
        const target = await openTarget(refusal.ddl, mode, { leaveUnique: ["t"], server });
        opened.push(target);
        const outcome = await target.feed.apply(chunk("t", "INSERT", refusal.rows));
        expect(outcome).toMatchObject({ parked: 1 });
        const [found] = await target.db.query("SELECT error_code, remedy, error, facts FROM replicator.inbox");
        expect(found).toMatchObject({ error_code: refusal.code, remedy: refusal.remedy });
        expect(found?.error).toEndWith(`: ${refusal.remedy}`);
        // Far from being due: what makes it due is what mends it.
        await target.store.retryParked(10);
        await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = 'infinity' WHERE NOT waits");
        await script(target.db, refusal.mend ?? refusal.remedy);
        // A row that comes or goes is no change of the schema.
        if (refusal.code === "23503" || refusal.code === "23P01")
          await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = now()");
        await until("the change is applied", async () => {
          await target.store.retryParked(10);
          const left = await target.column("SELECT error FROM replicator.inbox");
          return left.length === 0 || String(left);
        });
        expect(await target.column("SELECT count(*) FROM t WHERE id = 1")).toEqual(["1"]);
      });
    }
  });
}
