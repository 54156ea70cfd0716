import { afterAll, expect, test } from "bun:test";
import type { Database } from "../../adapters/postgres/connection.ts";
import type { Chunk, Operation } from "../../src/core/chunk.ts";
import { sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { application, chunk, MODES, openTarget, row, setUp, type Target } from "../support/target_fixture.ts";

/** One column and its values, as SQL literals, each. */
const MATRIX: readonly (readonly [type: string, ...values: string[]])[] = [
  ["boolean", "true", "false"],
  ["smallint", "-32768", "32767"],
  ["integer", "-2147483648", "2147483647"],
  ["bigint", "-9223372036854775808", "9223372036854775807", "9007199254740993"],
  [
    "numeric",
    "'NaN'",
    "'Infinity'",
    "'-Infinity'",
    "0.1000",
    "12345678901234567890123456789012345678.000000000000001",
    "-0.0",
    "1e400",
  ],
  ["numeric(12,4)", "1.5", "-99999999.9999"],
  ["real", "'NaN'", "'Infinity'", "3.4028235e38", "1e-45", "0.1", "-0.0"],
  ["double precision", "'NaN'", "'-Infinity'", "1.7976931348623157e308", "5e-324", "0.1 + 0.2::float8", "-0.0"],
  ["money", "'-92233720368547758.08'", "'12.34'"],
  ["text", "''", "E'a\\n\\t\\r\\\\\"quoted\" \\u0001 \\u20ac'", "'Ёж 🦔 ﷽ ''$1'' {} [] ,'", "repeat('x', 100000)"],
  ["varchar(5)", "'abc  '", "'äöü'"],
  ["char(5)", "'ab'", "''"],
  ['"char"', "'a'", "''"],
  ["name", "'n'"],
  ["bytea", "'\\x'", "'\\x00ff0a5c22'"],
  ["date", "'infinity'", "'-infinity'", "'0044-03-15 BC'", "'4713-01-01 BC'", "'5874897-12-31'", "'2026-02-28'"],
  ["time", "'00:00'", "'24:00'", "'23:59:59.999999'"],
  ["timetz", "'00:00+15:59'", "'24:00-15:59'", "'10:00:00.5+02'"],
  [
    "timestamp",
    "'infinity'",
    "'-infinity'",
    "'4713-01-01 00:00 BC'",
    "'294276-12-31 23:59:59.999999'",
    "'2026-11-21 10:00:00.000001'",
  ],
  [
    "timestamptz",
    "'infinity'",
    "'-infinity'",
    "'4713-01-01 00:00+00 BC'",
    "'294276-12-31 23:59:59.999999+00'",
    "'2026-03-29 02:30+01'",
  ],
  ["timestamptz(3)", "'2026-11-21 10:00:00.123+02'"],
  ["interval", "'-178000000 years'", "'1 mon -1 day +00:00:00.000001'", "'178000000 years'", "'-23:59:59'"],
  ["uuid", "'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
  [
    "json",
    `'{"n": 12345678901234567890.10,  "d":1e400 , "a":[ 1 ,2], "k":1, "k":2, "u":"\\u0041"}'`,
    "'null'",
    "'\"s\"'",
    "E'{\\n\"a\" : 1\\n}'",
    "'-0'",
  ],
  ["jsonb", `'{"n": 12345678901234567890.10, "b": null}'`, "'null'", "'\"s\"'", "'[]'"],
  ["inet", "'::1/128'", "'10.0.0.1/8'"],
  ["cidr", "'10.0.0.0/8'"],
  ["macaddr", "'08:00:2b:01:02:03'"],
  ["bit(3)", "B'101'"],
  ["bit varying", "B''", "B'1010101'"],
  ["point", "'(1.5,-2)'", "'(NaN,Infinity)'"],
  ["polygon", "'((0,0),(0,1),(1,0.1))'"],
  ["tsvector", "'fat:2 cat:3A'"],
  ["tsquery", "'fat & !cat'"],
  ["xml", "'<a>1</a>'"],
  ["pg_lsn", "'16/B374D848'"],
  ["oid", "4294967295"],
  ["regclass", "'pg_catalog.pg_class'"],
  ["integer[]", "'{}'", "'[-2:0]={1,NULL,3}'", "'{{1,2},{3,4}}'"],
  ["text[]", "ARRAY['', 'NULL', NULL, 'a\"b\\c,{}', 'Ё']"],
  ["timestamptz[]", "ARRAY['infinity', '2026-03-29 02:30+01', '0044-03-15 BC']::timestamptz[]"],
  ["jsonb[]", "ARRAY['{\"a\": 1}', 'null']::jsonb[]"],
  ["bytea[]", "ARRAY['\\x00', '\\xff']::bytea[]"],
  ["float8[]", "ARRAY['NaN', 0.1 + 0.2::float8, 'Infinity']::float8[]"],
  ["int4range", "'empty'", "'[1,10)'", "'(,)'"],
  ["tstzrange", "'[2026-01-01 00:00+03,infinity]'"],
  ["numrange", "'(0.10,1.5]'"],
  ["int4multirange", "'{[1,3),[5,8)}'", "'{}'"],
  ["datemultirange", "'{[2026-01-01,2026-02-01)}'"],
  ["mood", "'sad'", "'so \"happy\", yes'"],
  ["mood[]", "'{sad}'"],
  ["positive", "5"],
  ["small_json", "'{\"a\":  1}'"],
  ["positive[]", "ARRAY[1, 2]::positive[]"],
  ["address", "ROW('Main \"St\"', 5, ARRAY[1.50, NULL], '{\"z\":1}')::address", "ROW(NULL, NULL, NULL, NULL)::address"],
  ["address[]", "ARRAY[ROW('a,b', 1, NULL, 'null')::address]"],
  ["home", "ROW('x', 7, NULL, NULL)"],
  ["hstore", '\'a=>1, "b c"=>NULL, q=>"\\""\'', "''"],
  ["citext", "'MiXed'"],
];

const TYPES = `
CREATE SCHEMA ext;
CREATE EXTENSION IF NOT EXISTS hstore SCHEMA ext;
CREATE EXTENSION IF NOT EXISTS citext SCHEMA ext;
SET search_path TO public, ext;
CREATE TYPE mood AS ENUM ('sad', 'so "happy", yes');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN small_json AS json CHECK (length(VALUE::text) < 100);
CREATE TYPE address AS (street text, no int, parts numeric(8,2)[], more json);
CREATE DOMAIN home AS address;`;

/** Settings of an application that would change the text of values, were they not pinned. */
const HOSTILE = `SET DateStyle TO 'SQL, DMY'; SET IntervalStyle TO 'iso_8601'; SET TimeZone TO 'Asia/Kolkata';
SET extra_float_digits TO -5; SET bytea_output TO 'escape'; SET search_path TO public, ext;`;

const OPERATIONS: Readonly<Record<string, Operation>> = { I: "INSERT", U: "UPDATE", D: "DELETE", T: "TRUNCATE" };

/** What this database's triggers have captured, in order, and forgets it. */
async function captured(db: Database): Promise<Chunk[]> {
  const rows = await db.query<Record<string, string>>(
    `SELECT r.schema_name, r.table_name, q.operation, q.rows, q.id, q.xid, q.data,
       array_to_json(r.key_columns) AS key, array_to_json(r.stamp_columns) AS stamp
     FROM replicator.queue q JOIN replicator.replicated_table r USING (table_id) ORDER BY q.id`,
  );
  await db.execute("DELETE FROM replicator.queue");
  return rows.map((line) => {
    const { schema_name, table_name, operation = "", data = "" } = line;
    return chunk(`${table_name}`, OPERATIONS[operation] ?? "INSERT", [], {
      schema: schema_name ?? "",
      first_queue_id: String(BigInt(line.id ?? "0") << 20n),
      transaction: line.xid ?? "",
      rows: Number(line.rows),
      key: JSON.parse(line.key ?? "[]"),
      stamp: JSON.parse(line.stamp ?? "[]"),
      data,
    });
  });
}

describeWith("postgres", "Target store, types", () => {
  const closers: (() => Promise<void>)[] = [];
  afterAll(async () => {
    for (const close of closers) await close();
  });
  const pair = async (ddl: string, mode: (typeof MODES)[number]): Promise<{ source: Database; target: Target }> => {
    const source = await application(await sharedPostgres(), ddl);
    const target = await openTarget(ddl, mode);
    closers.push(
      () => source.close(),
      () => target.close(),
    );
    return { source, target };
  };
  const textOf = (db: Database, table: string) =>
    db.query(`SELECT ROW(a_row.*)::text COLLATE "C" AS line FROM ${table} a_row ORDER BY 1`);

  for (const mode of MODES) {
    for (const capture of ["row", "statement"]) {
      test(`I7: every type arrives equal as text (${mode} mode, ${capture} capture, hostile settings at the source)`, async () => {
        const most = Math.max(...MATRIX.map((line) => line.length - 1));
        const columns = MATRIX.map(([type], n) => `c${n} ${type}`).join(", ");
        const ddl = `${TYPES}
CREATE TABLE matrix (id int PRIMARY KEY, ${columns}, gen text GENERATED ALWAYS AS ('g' || id) STORED, ident int GENERATED ALWAYS AS IDENTITY);
SELECT public.setup_table_for_replication('matrix', '{"capture":"${capture}"}');`;
        const { source, target } = await pair(ddl, mode);
        const connection = await source.reserve();
        await connection.script(HOSTILE);
        for (let n = 0; n < most; n++) {
          const values = MATRIX.map(
            ([type, ...all], column) => [`c${column}`, `(${all[n] ?? "NULL"})::${type}`] as const,
          );
          const names = values.map(([name]) => name).join(", ");
          await connection.script(
            `INSERT INTO matrix (id, ${names}) VALUES (${n}, ${values.map(([, value]) => value).join(", ")})`,
          );
        }
        await target.feed.apply(...(await captured(source)));
        expect(await target.column("SELECT error_code || error FROM inbox")).toEqual([]);
        expect(await textOf(target.db, "matrix")).toEqual(await textOf(source, "matrix"));
        await connection.script("UPDATE matrix SET c0 = NOT c0");
        connection.destroy();
        await target.feed.apply(...(await captured(source)));
        expect(await target.column("SELECT error_code || error FROM inbox")).toEqual([]);
        expect(await textOf(target.db, "matrix")).toEqual(await textOf(source, "matrix"));
        expect(await target.column("SELECT count(*) FROM matrix WHERE version = 2")).toEqual([String(most)]);
      });
    }
  }

  const KEYS = [
    "boolean",
    "numeric",
    "double precision",
    "text",
    "bytea",
    "date",
    "timestamptz",
    "interval",
    "uuid",
    "jsonb",
    "inet",
    "integer[]",
    "int4range",
    "mood",
    "positive",
    "address",
    "ext.citext",
    "char(5)",
  ];
  for (const type of KEYS) {
    test(`a key of type ${type} is found again by UPDATE and DELETE`, async () => {
      const samples = MATRIX.find(([name]) => `ext.${name}` === type || name === type)?.slice(1) ?? [];
      const values = type === "address" ? ["ROW('a', 1, NULL, NULL)::address"] : samples;
      // A composite that holds json has no order, so no key.
      const types = TYPES.replace(", more json)", ", more text)");
      const { source, target } = await pair(
        `${types} CREATE TABLE keyed (k ${type} PRIMARY KEY, n int); ${setUp("keyed")}`,
        "replica",
      );
      for (const value of values)
        await source.execute(`INSERT INTO keyed VALUES ((${value})::${type}, 1) ON CONFLICT DO NOTHING`);
      await source.execute("UPDATE keyed SET n = 2");
      await target.feed.apply(...(await captured(source)));
      expect(await textOf(target.db, "keyed")).toEqual(await textOf(source, "keyed"));
      await source.execute("UPDATE keyed SET n = 3");
      await target.feed.apply(...(await captured(source)));
      expect(await textOf(target.db, "keyed")).toEqual(await textOf(source, "keyed"));
      await source.execute("DELETE FROM keyed");
      await target.feed.apply(...(await captured(source)));
      expect(await target.column("SELECT error FROM inbox")).toEqual([]);
      expect(await textOf(target.db, "keyed")).toEqual([]);
    });
  }

  test("keys that are equal by their type though not by their text are one key: citext in another case", async () => {
    const { target } = await pair(
      `${TYPES} CREATE TABLE tags (k citext PRIMARY KEY, n int); ${setUp("tags")}`,
      "replica",
    );
    const tag = (version: number, k: string) => row(version, { k, n: version });
    await target.feed.apply(chunk("tags", "INSERT", [tag(1, "MiXed")], { key: ["k"] }));
    await target.feed.apply(chunk("tags", "UPDATE", [tag(2, "mixed"), tag(1, "MIXED")], { key: ["k"] }));
    expect(await target.column("SELECT n FROM tags")).toEqual(["2"]);
    await target.feed.apply(chunk("tags", "DELETE", [row(3, { k: "MIXED" })], { key: ["k"] }));
    expect(await target.column("SELECT n FROM tags")).toEqual([]);
    expect(await target.feed.apply(chunk("tags", "UPDATE", [tag(2, "mixed")], { key: ["k"] }))).toMatchObject({
      beaten: 1,
    });
    expect(await target.column("SELECT n FROM tags")).toEqual([]);
  });

  test("a key change, a TRUNCATE and a reinsert at the source leave equal tables", async () => {
    const { source, target } = await pair(
      `CREATE TABLE users (id int PRIMARY KEY, name text); ${setUp("users")}`,
      "replica",
    );
    const step = async (sql: string) => {
      await source.execute(sql);
      expect(await target.feed.apply(...(await captured(source)))).toMatchObject({ parked: 0 });
      expect(await textOf(target.db, "users")).toEqual(await textOf(source, "users"));
    };
    await step("INSERT INTO users SELECT n, 'n' || n FROM generate_series(1, 20) n");
    await step("UPDATE users SET id = id + 100 WHERE id < 10");
    await step("DELETE FROM users WHERE id = 101");
    await step("INSERT INTO users (id, name) VALUES (101, 'again'), (1, 'again')");
    await step("TRUNCATE users");
    await step("INSERT INTO users (id, name) VALUES (101, 'after'), (1, 'after')");
    await step("INSERT INTO users (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name");
  });
});
