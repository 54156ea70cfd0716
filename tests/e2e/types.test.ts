/** Every type with its extremes, written under hostile session settings, arrives equal as text (I7); hostile names too. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { type Contour, contents, untilEqual } from "./harness.ts";
import { openPair, type Pair } from "./pair.ts";

/** type → literals as SQL, without casts where the column's type gives them. */
const MATRIX: Record<string, readonly string[]> = {
  boolean: ["true", "false"],
  smallint: ["-32768", "32767"],
  integer: ["-2147483648", "2147483647"],
  bigint: ["-9223372036854775808", "9223372036854775807", "9007199254740993"],
  real: ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1.1754944e-38", "3.4028235e38", "0.1"],
  "double precision": [
    "'NaN'",
    "'Infinity'",
    "'-0'",
    "2.2250738585072014e-308",
    "1.7976931348623157e308",
    "0.1::float8 + 0.2",
  ],
  numeric: ["'NaN'", "'Infinity'", "123456789012345678901234567890.123456789012345678901234567890", "1.000", "-0.0"],
  "numeric(20,5)": ["1.5", "-99999999999999.99999"],
  money: ["12.34", "'-92233720368547758.08'"],
  text: ["''", "E'tab\\tnewline\\n\"quote\" back\\\\slash'", "'Привет 😀'", "E'\\x01\\x1f'", "'null'"],
  "varchar(10)": ["'  x '"],
  "char(5)": ["'ab'"],
  '"char"': ["'a'"],
  name: ["'a name'"],
  bytea: ["''", "'\\x00ff10'", "'\\xdeadbeef'"],
  date: ["'4713-01-01 BC'", "'infinity'", "'-infinity'", "'5874897-12-31'", "'0044-03-15 BC'"],
  time: ["'00:00'", "'24:00:00'", "'23:59:59.999999'"],
  timetz: ["'12:00:00.123456+05:30'"],
  timestamp: [
    "'4713-01-01 00:00:00 BC'",
    "'infinity'",
    "'294276-12-31 23:59:59.999999'",
    "'2026-11-21 10:00:00.000001'",
  ],
  timestamptz: ["'4713-01-01 00:00:00+00 BC'", "'-infinity'", "'2026-11-21 10:00:00.123456+05:45'"],
  interval: ["'1 year 2 mons -3 days 04:05:06.789'", "'-178000000 years'", "'1 mon -1 sec'"],
  uuid: ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
  inet: ["'192.168.0.1/24'", "'::1'"],
  cidr: ["'10.0.0.0/8'"],
  macaddr: ["'08:00:2b:01:02:03'"],
  macaddr8: ["'08:00:2b:01:02:03:04:05'"],
  "bit(5)": ["B'10101'"],
  "bit varying": ["B''", "B'101'"],
  json: [`'{"a":  1.10, "b":12345678901234567890123, "a":2,\n "c" : null}'`, "'null'", `'"text"'`, "'[1, 2]'"],
  jsonb: [`'{"b":12345678901234567890123,"a":1.10}'`, "'null'", `'"text"'`],
  xml: ["'<a>b</a>'"],
  tsvector: ["'a:1 b:2'"],
  tsquery: ["'a & b'"],
  point: ["'(0.1,0.30000000000000004)'"],
  box: ["'(1,1),(0,0)'"],
  polygon: ["'((0,0),(1,1),(1,0))'"],
  circle: ["'<(0,0),0.30000000000000004>'"],
  int4range: ["'[1,10)'", "'empty'", "'(,5)'"],
  numrange: ["'[1.10,2.20]'"],
  tstzrange: ["'[2026-01-01 00:00:00+03,2026-02-01 00:00:00+03)'"],
  daterange: ["'[2026-01-01,infinity]'"],
  int4multirange: ["'{[1,3),[5,8)}'", "'{}'"],
  tstzmultirange: ["'{[2026-01-01 00:00:00+03,2026-02-01 00:00:00+03)}'"],
  "integer[]": ["'{}'", "'{1,NULL,3}'", "'[2:4]={1,2,3}'", "'{{1,2},{3,4}}'"],
  "text[]": [`'{"a,b","quo\\"te",NULL,"NULL",""}'`],
  "float8[]": ["'{0.30000000000000004,NaN,-0}'"],
  "timestamptz[]": ["'{2026-01-01 00:00:00+03}'"],
  "interval[]": ["'{1 year 2 mons}'"],
  "bytea[]": ["'{\"\\\\x00ff\"}'"],
  "json[]": [`ARRAY['{"a" : 1}'::json]`],
  mood: ["'sad'", "'о-кей'"],
  "mood[]": ["'{sad,happy}'"],
  positive: ["5"],
  tags: [`'{"a,b"}'`],
  document: [`'{"x" :  1}'`],
  pair: ["ROW(1, 'a,\"b')::pair", "ROW(NULL, NULL)::pair"],
  "pair[]": ["ARRAY[ROW(1, 'x')::pair]"],
  hstore: [`'a=>1, "b c"=>NULL'`],
  pg_lsn: ["'16/B374D848'"],
  oid: ["4294967295"],
  regclass: ["'pg_class'"],
};

const TYPES = `
CREATE EXTENSION IF NOT EXISTS hstore;
CREATE TYPE mood AS ENUM ('sad', 'happy', 'о-кей');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN tags AS text[];
CREATE DOMAIN document AS json;
CREATE TYPE pair AS (n int, t text);
`;

function ddl(): string {
  const tables = Object.keys(MATRIX).map(
    (type, n) => `CREATE TABLE type_${n} (id int PRIMARY KEY, v ${type}, w ${type});`,
  );
  return `${TYPES}
${tables.join("\n")}
CREATE TABLE generated_columns (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED, c json);
CREATE TABLE "My Table ""quoted"" таблица" ("select" int, "two words" text, "new" int, "old" text, "t" int, "data" text, "r" int, "Колонка""x" json,
  PRIMARY KEY ("select", "two words"));
CREATE SCHEMA "My Schema";
CREATE TABLE "My Schema"."Order" (t text PRIMARY KEY, new int, data jsonb);
`;
}

const NAMED = ['"My Table ""quoted"" таблица"', '"My Schema"."Order"'];

describeWith(["nats", "postgres"], "types", () => {
  let pair: Pair;
  let a: Contour;
  let b: Contour;
  const tables = Object.keys(MATRIX).map((_, n) => `type_${n}`);

  beforeAll(async () => {
    const all = [...tables, "generated_columns", ...NAMED];
    pair = await openPair({
      broker: "nats",
      ddl: ddl(),
      tables: all.map((name, n) => ({
        name,
        ...(n % 3 === 1 ? { topic: `types_${n % 6}` } : {}),
        capture: n % 2 === 0 ? "row" : "statement",
      })),
    });
    ({ a, b } = pair);
    await Promise.all([a.start("publisher"), b.start("consumer")]);
  });
  afterAll(() => pair?.close());

  test("I7: every type with its extremes is equal as text", async () => {
    const session = await a.sql.reserve();
    try {
      await session.unsafe(`SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'sql_standard'; SET TimeZone = 'Asia/Kathmandu';
        SET extra_float_digits = 0; SET bytea_output = 'escape'; SET xmloption = 'content'`);
      for (const [n, literals] of Object.values(MATRIX).entries()) {
        for (const [id, literal] of literals.entries()) {
          await session.unsafe(
            `SET DateStyle = 'ISO, MDY'; INSERT INTO type_${n} VALUES (${id}, NULL, ${literal}); SET DateStyle = 'SQL, DMY'`,
          );
          await session.unsafe(`UPDATE type_${n} SET v = w WHERE id = ${id}`);
        }
        await session.unsafe(`INSERT INTO type_${n} SELECT id + 1000, w, NULL FROM type_${n}`);
      }
    } finally {
      session.release();
    }
    await untilEqual([a, b], Object.fromEntries(tables.map((table) => [table, "id"])));
    for (const [n, literals] of Object.values(MATRIX).entries()) {
      const [row] = await b.sql.unsafe(`SELECT count(*)::int AS n FROM type_${n} WHERE w IS NOT NULL`);
      expect(row?.n).toBe(literals.length);
    }
    expect((await b.sql`SELECT count(*)::int AS n FROM inbox`)[0]?.n).toBe(0);
  });

  test("identity and generated columns arrive", async () => {
    await a.sql`INSERT INTO generated_columns (a, c) VALUES (21, '{"x" :  1}'), (NULL, 'null')`;
    await a.sql`UPDATE generated_columns SET a = 22 WHERE a = 21`;
    await untilEqual([a, b], { generated_columns: "id" });
    expect((await b.sql`SELECT b, c::text AS c FROM generated_columns WHERE a = 22`)[0]).toMatchObject({
      b: 44,
      c: '{"x" :  1}',
    });
  });

  test("hostile names and composite keys arrive", async () => {
    const [hostile, order] = NAMED as [string, string];
    await a.sql.unsafe(
      `INSERT INTO ${hostile} VALUES (1, 'a b', 1, 'o', 2, 'd', 3, '{"k" : 1}'), (1, 'c''d', 1, 'o', 2, 'd', 3, NULL)`,
    );
    await a.sql.unsafe(`UPDATE ${hostile} SET "new" = 5, "two words" = 'moved' WHERE "two words" = 'a b'`);
    await a.sql.unsafe(`DELETE FROM ${hostile} WHERE "two words" = 'c''d'`);
    await a.sql.unsafe(`INSERT INTO ${order} VALUES ('x', 1, '{"a": 1}'), ('y', 2, NULL)`);
    await a.sql.unsafe(`DELETE FROM ${order} WHERE t = 'y'`);
    await untilEqual([a, b], { [hostile]: '"select", "two words"', [order]: "t" });
    expect(await contents(b.sql, hostile, '"select"')).toStartWith("1 ");
    expect(await contents(b.sql, order, "t")).toStartWith("1 ");
  });

  test("a table without a key is refused with its remedy", async () => {
    await a.sql`CREATE TABLE keyless (v int)`;
    const { code, stderr } = await a.command("tables", "add", "keyless");
    expect(code).toBe(2);
    expect(stderr).toContain("keyless");
    expect(stderr).toContain("PRIMARY KEY");
    expect(stderr).not.toContain("    at ");
  });
});
