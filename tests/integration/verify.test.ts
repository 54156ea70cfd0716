/** verify over two PostgreSQL databases at hand: every kind of difference, keys of all kinds, order of no importance. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { openVerifySide } from "../../adapters/postgres/admin/verify.ts";
import type { Database } from "../../adapters/postgres/connection.ts";
import { systemClock } from "../../src/core/clock.ts";
import { silentLogger } from "../../src/core/logger.ts";
import type { VerifySide } from "../../src/core/verify.ts";
import type { ComparisonReport, TableReport } from "../../src/verify/report.ts";
import { type VerifyOptions, verify } from "../../src/verify/verify.ts";
import { type PostgresMajor, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { application, setUp as replicate, script } from "../support/target_fixture.ts";

setDefaultTimeout(120_000);
const { signal } = new AbortController();

interface Two {
  readonly here: Database;
  readonly there: Database;
  compare(tables: readonly string[], more?: Partial<VerifyOptions>): Promise<ComparisonReport>;
  one(table: string, more?: Partial<VerifyOptions>): Promise<TableReport>;
}

const opened: { close(): Promise<void> }[] = [];

/** Two contours' databases with DDL of their own. */
async function two(ddlHere: string, ddlThere = ddlHere, contours = true, major?: PostgresMajor): Promise<Two> {
  const server = await sharedPostgres(major);
  const here = await application(server, `SELECT "replicator".set_contour('active'); ${ddlHere}`);
  const there = await application(server, contours ? ddlThere : `${ddlThere}; SELECT "replicator".uninstall()`);
  const sides: VerifySide[] = [here.url, there.url].map((url) => openVerifySide({ url, logger: silentLogger }));
  opened.push(here, there, ...sides);
  const [left, right] = sides as [VerifySide, VerifySide];
  const compare: Two["compare"] = async (tables, more = {}) =>
    verify({
      here: left,
      there: right,
      hereFacts: await left.facts(signal),
      tables,
      limit: 100,
      waitMs: 0,
      chunkRows: 7,
      clock: systemClock,
      signal,
      onProgress: () => undefined,
      ...more,
    });
  return {
    here,
    there,
    compare,
    async one(table, more) {
      const report = await compare([table], more);
      const [only] = report.tables;
      if (!only) throw new Error("One table was asked for");
      return only;
    },
  };
}

/** Under replication, and rows that are written unseen by capture get the same stamp at both. */
const setUp = (...tables: string[]) =>
  `${replicate(...tables)} ${tables.map((table) => `ALTER TABLE ${table} ALTER COLUMN updated_at SET DEFAULT '2026-01-01 00:00+00';`).join(" ")}`;
/** The same rows at both, as replication would have left them. */
const SAME = (rows: string) => `SET replicator.capture = 'off'; ${rows}; RESET replicator.capture;`;
const counts = ({ only_here, only_there, different, in_flight, rows_here, rows_there, verdict }: TableReport) => ({
  verdict,
  rows: [rows_here, rows_there],
  found: { only_here, only_there, different, in_flight },
});

describeWith("postgres", "verify", () => {
  let users: Two;
  beforeAll(async () => {
    const ddl = `CREATE TABLE users (id bigint PRIMARY KEY, name text, score float8); ${setUp("users")}
      ${SAME("INSERT INTO users SELECT n, 'user ' || n, n / 3.0 FROM generate_series(1, 100) n")}`;
    users = await two(ddl);
  });
  afterAll(async () => {
    await Promise.all(opened.map((one) => one.close()));
  });

  test("equal tables are equal, whatever the chunks", async () => {
    for (const chunkRows of [1, 7, 100, 101, 5_000]) {
      expect(counts(await users.one("users", { chunkRows }))).toEqual({
        verdict: "equal",
        rows: [100, 100],
        found: { only_here: 0, only_there: 0, different: 0, in_flight: 0 },
      });
    }
  });

  test("rows only here, only there and different are found with their keys, columns and stamps", async () => {
    await script(
      users.here,
      SAME("INSERT INTO users VALUES (0, 'first', 1), (1000, 'last', 1); DELETE FROM users WHERE id IN (50, 51)"),
    );
    await script(
      users.there,
      SAME(
        "UPDATE users SET name = '' WHERE id = 7; UPDATE users SET name = NULL, score = score + 1e-14 WHERE id = 93; INSERT INTO users VALUES (2000, 'x', 0)",
      ),
    );
    await script(users.here, SAME("UPDATE users SET name = NULL WHERE id = 7"));
    const report = await users.one("users");
    expect(counts(report)).toEqual({
      verdict: "different",
      rows: [100, 101],
      found: { only_here: 2, only_there: 3, different: 2, in_flight: 0 },
    });
    const found = report.differences.map(({ kind, key, columns }) => `${key.id} ${kind} ${columns.join(",")}`.trim());
    expect(found.sort()).toEqual([
      "0 only here",
      "1000 only here",
      "2000 only there",
      "50 only there",
      "51 only there",
      "7 different name",
      "93 different name,score",
    ]);
    const seventh = report.differences.find(({ key }) => key.id === "7");
    expect(seventh?.here).toEqual({ version: "1", updated_at: "2026-01-01 00:00:00+00", updated_by: "" });
    expect(report.differences.find(({ key }) => key.id === "50")).toMatchObject({ here: null, in_flight: false });
    const few = await users.one("users", { limit: 2 });
    expect([few.differences.length, few.different]).toEqual([2, 2]);
  });

  test("a stamp that differs is a difference", async () => {
    const ddl = `CREATE TABLE t (id int PRIMARY KEY, v text); ${setUp("t")} ${SAME("INSERT INTO t VALUES (1, 'a')")}`;
    const pair = await two(ddl);
    await script(pair.there, SAME("UPDATE t SET updated_by = 'c' WHERE id = 1"));
    expect((await pair.one("t")).differences).toMatchObject([{ kind: "different", columns: ["updated_by"] }]);
  });

  test("text keys are found whatever the collations of the two databases", async () => {
    const words = ["a", "B", "ä", "Z", "z", "-x", "x-", "_", "é", "e", "E", "Ω", "10", "9", "ß", "ss", "co-op", "coop"];
    const rows = words.map((word) => `('${word}', 'v')`).join(", ");
    const ddl = (collation: string) =>
      `CREATE TABLE words (word text COLLATE "${collation}" PRIMARY KEY, v text); ${setUp("words")} ${SAME(`INSERT INTO words VALUES ${rows}`)}`;
    const pair = await two(ddl("C"), ddl("de-x-icu"));
    const order = async (db: Database) =>
      (await db.query("SELECT string_agg(word, ' ' ORDER BY word) AS words FROM words"))[0]?.words;
    expect(await order(pair.here)).not.toBe(await order(pair.there));
    for (const chunkRows of [1, 3, 5, 100]) expect((await pair.one("words", { chunkRows })).verdict).toBe("equal");
    await script(pair.here, SAME("DELETE FROM words WHERE word = 'ß'; INSERT INTO words VALUES ('only', 'h')"));
    await script(pair.there, SAME("UPDATE words SET v = 'w' WHERE word = 'Ω'"));
    for (const chunkRows of [1, 3, 100]) {
      const { differences } = await pair.one("words", { chunkRows });
      expect(differences.map(({ key, kind }) => `${key.word} ${kind}`).sort()).toEqual([
        "only only here",
        "ß only there",
        "Ω different",
      ]);
    }
  });

  test("composite keys, keys with quotes and commas, and types of every kind", async () => {
    const ddl = `CREATE TYPE mood AS ENUM ('sad', 'ok');
      CREATE TABLE "My ""t" (a uuid, "b,c" text, m mood, j json, i interval, d timestamptz, bytes bytea, money money, PRIMARY KEY (m, "b,c", a));
      ${setUp('"My ""t"')}
      ${SAME(`INSERT INTO "My ""t" SELECT md5(n::text)::uuid, CASE n % 3 WHEN 0 THEN 'x,"{}\\' || n ELSE 'NULL' END, 'ok', '{"a": 1.0}', '1 day 2 h', '2026-01-01 10:00+02', '\\x00ff', 12.5 FROM generate_series(1, 50) n`)}`;
    const pair = await two(ddl);
    expect((await pair.one('"My ""t"')).verdict).toBe("equal");
    // Settings of a database or a role do not show in what is compared.
    await script(
      pair.there,
      "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET IntervalStyle = iso_8601', current_database()); EXECUTE format('ALTER DATABASE %I SET TimeZone = %L', current_database(), 'Asia/Tokyo'); END $$",
    );
    expect((await pair.one('"My ""t"')).verdict).toBe("equal");
    await script(pair.there, SAME(`UPDATE "My ""t" SET j = '{"a":1.0}' WHERE a = md5('6')::uuid`));
    const { differences } = await pair.one('"My ""t"');
    expect(differences).toMatchObject([{ key: { m: "ok", "b,c": 'x,"{}\\6' }, columns: ["j"] }]);
  });

  test("columns are compared by name: another order is no difference, generated and excluded ones are left out", async () => {
    const pair = await two(
      `CREATE TABLE t (id int PRIMARY KEY, a text, b text, secret text, g int GENERATED ALWAYS AS (id * 2) STORED);
       SELECT setup_table_for_replication('t', '{"exclude_columns": ["secret"]}'); ALTER TABLE t ALTER COLUMN updated_at SET DEFAULT '2026-01-01 00:00+00'; ${SAME("INSERT INTO t (id, a, b, secret) VALUES (1, 'a', 'b', 's')")}`,
      `CREATE TABLE t (b text, secret text, g text, a text, id int PRIMARY KEY); ${setUp("t")}
       ${SAME("INSERT INTO t (id, a, b, secret) VALUES (1, 'a', 'b', 'other')")}`,
    );
    expect((await pair.one("t")).verdict).toBe("equal");
    await script(pair.there, "ALTER TABLE t ADD COLUMN extra int; ALTER TABLE t DROP COLUMN a");
    expect(await pair.one("t")).toMatchObject({
      verdict: "different",
      columns_only_here: ["a"],
      columns_only_there: ["extra"],
      different: 0,
      rows_here: 1,
    });
  });

  test("stamp columns of other names are compared by their part", async () => {
    const pair = await two(
      `CREATE TABLE t (id int PRIMARY KEY); ${setUp("t")} ${SAME("INSERT INTO t VALUES (1)")}`,
      `CREATE TABLE t (id int PRIMARY KEY); SELECT setup_table_for_replication('t', '{"columns": {"version": "row_version", "updated_by": "who"}}'); ${SAME("INSERT INTO t VALUES (1)")}`,
    );
    await script(pair.there, SAME("UPDATE t SET row_version = 1, updated_at = '1970-01-01 00:00+00', who = ''"));
    await script(pair.here, SAME("UPDATE t SET updated_at = '1970-01-01 00:00+00'"));
    expect(await pair.one("t")).toMatchObject({ verdict: "equal", columns_only_here: [], columns_only_there: [] });
  });

  test("a table that is not there, and a key of another type, are differences with their reason", async () => {
    const pair = await two(
      `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); ${setUp("a", "b")}`,
      "CREATE TABLE b (id uuid PRIMARY KEY)",
    );
    const report = await pair.compare(["a", "b", "c"]);
    expect(report.verdict).toBe("different");
    expect(report.tables.map(({ problem }) => problem)).toEqual([
      "the table is not there",
      "its key column id is integer here and uuid there",
      "the table is not here",
    ]);
  });

  test("partitioned tables are compared as one, also with one that is not partitioned", async () => {
    const rows = SAME("INSERT INTO p SELECT n FROM generate_series(1, 30) n");
    const pair = await two(
      `CREATE TABLE p (id int PRIMARY KEY) PARTITION BY HASH (id); CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
       CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1); ${setUp("p")} ${rows}`,
      `CREATE TABLE p (id int PRIMARY KEY); ${setUp("p")} ${rows}`,
    );
    expect(counts(await pair.one("p"))).toMatchObject({ verdict: "equal", rows: [30, 30] });
  });

  test("keys whose operators live outside pg_catalog are read in their own order, chunk by chunk", async () => {
    const rows =
      "INSERT INTO t SELECT CASE n % 2 WHEN 0 THEN 'K' ELSE 'k' END || n / 4, n % 4, 'v' FROM generate_series(1, 60) n";
    const ddl = `CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE TABLE t (word ext.citext, n int, v text, PRIMARY KEY (word, n)); ${setUp("t")} ${SAME(rows)}`;
    const pair = await two(ddl);
    for (const chunkRows of [1, 7, 100]) {
      expect(counts(await pair.one("t", { chunkRows }))).toMatchObject({ verdict: "equal", rows: [60, 60] });
    }
    await script(
      pair.there,
      SAME(
        "UPDATE t SET word = upper(word::text) WHERE word = 'k5' AND n = 1; DELETE FROM t WHERE word = 'K6' AND n = 2",
      ),
    );
    const { differences } = await pair.one("t");
    // Another way to write a key of one meaning is a row that differs, not two rows.
    expect(differences.map(({ key, kind, columns }) => [key.word, key.n, kind, columns.join()])).toEqual([
      ["k5", "1", "different", "word"],
      ["K6", "2", "only here", ""],
    ]);
  });

  test("a plain replica without our objects is compared by this contour's key; its stamp columns are missing there", async () => {
    const ddl = (setup: string) =>
      `CREATE TABLE t (id int PRIMARY KEY, v text); ${setup} INSERT INTO t VALUES (1, 'a')`;
    const pair = await two(`${ddl("")}; ${setUp("t")}`, ddl(""), false);
    const report = await pair.compare(["t"]);
    expect(report.there).toMatchObject({ contour: null, queue: null });
    expect(report.tables[0]).toMatchObject({
      columns_only_here: ["version", "updated_at", "updated_by"],
      different: 0,
      rows_there: 1,
    });
  });

  test("the same contour twice is refused", async () => {
    const pair = await two("SELECT 1", `SELECT "replicator".set_contour('active')`);
    await expect(pair.compare([])).rejects.toMatchObject({ code: "verify.same_contour", fault: "input" });
  });

  test("row level security is an error, never a missing row", async () => {
    const ddl = `CREATE TABLE t (id int PRIMARY KEY); ${setUp("t")} INSERT INTO t VALUES (1);
      DO $$ BEGIN CREATE ROLE verify_poor LOGIN PASSWORD 'poor'; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
      GRANT SELECT ON t TO verify_poor; ALTER TABLE t ENABLE ROW LEVEL SECURITY`;
    const pair = await two(ddl);
    const poor = openVerifySide({
      url: (pair.there as Database & { url: string }).url,
      user: "verify_poor",
      password: "poor",
      schema: "nowhere",
      logger: silentLogger,
    });
    opened.push(poor);
    await expect(pair.one("t", { there: poor })).rejects.toMatchObject({ fault: "environment" });
    await script(pair.there, "DROP OWNED BY verify_poor");
  });
});

for (const major of [14, 18] as const) {
  describeWith(`postgres:${major}`, `verify with PostgreSQL ${major}`, () => {
    afterAll(async () => {
      await Promise.all(opened.map((one) => one.close()));
    });

    test("finds what is only here, only there and different", async () => {
      const ddl = `CREATE TABLE users (id bigint, part text COLLATE "de-x-icu", name text, PRIMARY KEY (id, part)); ${setUp("users")}
        ${SAME("INSERT INTO users SELECT n, 'p' || n, 'n' FROM generate_series(1, 50) n")}`;
      const pair = await two(ddl, ddl, true, major);
      await script(pair.here, SAME("DELETE FROM users WHERE id = 1; UPDATE users SET name = 'm' WHERE id = 2"));
      await script(pair.there, SAME("DELETE FROM users WHERE id = 3"));
      expect(counts(await pair.one("users"))).toEqual({
        verdict: "different",
        rows: [49, 49],
        found: { only_here: 1, only_there: 1, different: 1, in_flight: 0 },
      });
    });
  });
}
