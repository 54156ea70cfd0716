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
  text: [
    "''",
    "U&'\\2028\\FFFF\\FEFF\\0085'",
    "repeat('x', 9000)",
    "E'tab\\tnewline\\n\"quote\" back\\\\slash'",
    "'Привет 😀'",
    "E'\\x01\\x1f'",
    "'null'",
  ],
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
  json: [
    `'{"a":  1.10, "b":12345678901234567890123, "a":2,\n "c" : null}'`,
    "'null'",
    `'"text"'`,
    "'[1, 2]'",
    `'"\\u0000\\ud83d\\ude00"'`,
    `E'{"a"\\t:\\r\\n1e400}'`,
  ],
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
  line: ["'{1,-1,0.30000000000000004}'"],
  path: ["'[(0,0),(0.1,0.30000000000000004)]'"],
  lseg: ["'[(0,0),(0.1,0.30000000000000004)]'"],
  jsonpath: [`'$."a b"[*] ? (@ > 1.5)'`],
  pg_snapshot: ["'10:20:10,14,15'"],
  "bigint[]": ["'{9223372036854775807,-9007199254740993}'"],
  "numeric[]": ["'{NaN,1.000,123456789012345678901234567890.5}'"],
  "date[]": ["'{2026-11-21,infinity,0044-03-15 BC}'"],
  "timestamp[]": ["'[0:1]={2026-11-21 10:00:00.000001,infinity}'"],
  "money[]": ["'{12.34}'"],
  "tstzrange[]": [`'{"[2026-01-01 00:00:00+03,)"}'`],
  "hstore[]": [`ARRAY['a=>1'::hstore]`],
  '"My Schema"."Mood, x"': ["'a \"b\"'", "'с пробелом'"],
  '"My Schema"."Mood, x"[]': [`ARRAY['a "b"', NULL]::"My Schema"."Mood, x"[]`],
  happening: [
    "ROW('2026-11-21 10:00:00.123456+05:45', '1 year 2 mons', '\\x00ff', 0.30000000000000004, '2026-11-21')::happening",
  ],
  "happening[]": ["ARRAY[ROW('2026-11-21 10:00:00+03', '-3 days', '\\xff', 0.1, 'infinity')::happening, NULL]"],
  nested: [`ROW(ROW(1, 'a,"b')::pair, '{1,NULL}', '{"x" :  1}')::nested`],
  '"named pair"': ["ROW(7, 'seven')::pair"],
  moments: ["'{2026-01-01 00:00:00+03}'"],
  floatrange: ["'[0.30000000000000004,Infinity)'"],
  floatmultirange: ["'{[0.1,0.30000000000000004],[1,2]}'"],
};

const TYPES = `
CREATE EXTENSION IF NOT EXISTS hstore;
CREATE TYPE mood AS ENUM ('sad', 'happy', 'о-кей');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN tags AS text[];
CREATE DOMAIN document AS json;
CREATE TYPE pair AS (n int, t text);
CREATE SCHEMA "My Schema";
CREATE TYPE "My Schema"."Mood, x" AS ENUM ('a "b"', 'с пробелом');
CREATE TYPE happening AS (at timestamptz, span interval, raw bytea, size float8, day date);
CREATE TYPE nested AS (p pair, a int[], j json);
CREATE DOMAIN "named pair" AS pair CHECK ((VALUE).n > 0);
CREATE DOMAIN moments AS timestamptz[];
CREATE TYPE floatrange AS RANGE (subtype = float8);
`;

interface Variant {
  readonly table: string;
  readonly type: string;
  readonly literals: readonly string[];
  readonly capture: "row" | "statement";
  readonly topic: boolean;
}

/** Each type alone in both capture forms and both kinds of channel, crossed by turns; `wide` has all four combinations. */
const VARIANTS: readonly Variant[] = Object.entries(MATRIX).flatMap(([type, literals], n) =>
  (["row", "statement"] as const).map((capture) => ({
    table: `type_${n}_${capture}`,
    type,
    literals,
    capture,
    topic: (capture === "row") === (n % 2 === 0),
  })),
);
const TYPES_OF_WIDE = Object.keys(MATRIX);
const WIDE = (["row", "statement"] as const).flatMap((capture) =>
  [false, true].map((topic) => ({ table: `wide_${capture}_${topic ? "events" : "frames"}`, capture, topic })),
);
const LONGEST = Math.max(...Object.values(MATRIX).map(({ length }) => length));

function ddl(): string {
  const columns = TYPES_OF_WIDE.map((type, n) => `v${n} ${type}`).join(", ");
  return `${TYPES}
${VARIANTS.map(({ table, type }) => `CREATE TABLE ${table} (id int PRIMARY KEY, v ${type}, w ${type});`).join("\n")}
${WIDE.map(({ table }) => `CREATE TABLE ${table} (id int PRIMARY KEY, ${columns});`).join("\n")}
CREATE TABLE generated_columns (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED, c json);
CREATE TABLE "My Table ""quoted"" таблица" ("select" int, "two words" text, "new" int, "old" text, "t" int, "data" text, "r" int, "Колонка""x" json,
  PRIMARY KEY ("select", "two words"));
CREATE TABLE "My Schema"."Order" (t text PRIMARY KEY, new int, data jsonb);
`;
}

const HOSTILE = `SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'sql_standard'; SET TimeZone = 'Asia/Kathmandu';
SET extra_float_digits = 0; SET bytea_output = 'escape'; SET xmlbinary = 'hex'; SET lc_monetary = 'C'`;

const NAMED = ['"My Table ""quoted"" таблица"', '"My Schema"."Order"'];

describeWith(["nats", "postgres"], "types", () => {
  let pair: Pair;
  let a: Contour;
  let b: Contour;

  beforeAll(async () => {
    const tables = [...VARIANTS, ...WIDE].map(({ table, capture, topic }, n) => ({
      name: table,
      capture,
      ...(topic ? { topic: `types_${n % 3}` } : {}),
    }));
    const others = ["generated_columns", ...NAMED].map((name) => ({ name }));
    pair = await openPair({ broker: "nats", ddl: ddl(), tables: [...tables, ...others] });
    ({ a, b } = pair);
    await Promise.all([a.start("publisher"), b.start("consumer")]);
  }, 240_000);
  afterAll(() => pair?.close());

  /** Literals are read under the usual style, everything else happens under hostile settings. */
  async function hostileSession(work: (run: (text: string) => Promise<void>) => Promise<void>): Promise<void> {
    const session = await a.sql.reserve();
    try {
      await session.unsafe(HOSTILE);
      await work(async (text) => void (await session.unsafe(text)));
    } finally {
      // The comparison may run on this very connection.
      await session.unsafe("RESET ALL");
      session.release();
    }
  }
  const plainly = (text: string) => `SET DateStyle = 'ISO, MDY'; ${text}; SET DateStyle = 'SQL, DMY'`;

  test("I7: every type with its extremes is equal as text, whatever the session's settings, captured and sent either way", async () => {
    await hostileSession(async (run) => {
      for (const { table, literals } of VARIANTS) {
        const rows = literals.map((literal, id) => `(${id}, NULL, ${literal})`);
        await run(plainly(`INSERT INTO ${table} VALUES ${rows[0]}`));
        // Bare literals of several rows would be given one type of their own first.
        for (const row of rows.slice(1)) await run(plainly(`INSERT INTO ${table} VALUES ${row}`));
        await run(`UPDATE ${table} SET v = w; INSERT INTO ${table} SELECT id + 1000, w, NULL FROM ${table}`);
      }
    });
    await untilEqual([a, b], Object.fromEntries(VARIANTS.map(({ table }) => [table, "id"])));
    for (const { table, literals } of VARIANTS) {
      const [row] = await b.sql.unsafe(`SELECT sum(num_nonnulls(w))::int AS n FROM ${table}`);
      expect([table, row?.n]).toEqual([table, literals.length]);
    }
    expect((await b.sql`SELECT count(*)::int AS n FROM inbox`)[0]?.n).toBe(0);
  });

  test("I7: all types in one table, written in every way", async () => {
    await hostileSession(async (run) => {
      for (const { table } of WIDE) {
        for (let id = 0; id < LONGEST; id++) {
          const literals = Object.values(MATRIX).map((of) => of[id] ?? "NULL");
          await run(plainly(`INSERT INTO ${table} VALUES (${id}, ${literals.join(", ")})`));
        }
        await run(
          `INSERT INTO ${table} SELECT id + 100, ${TYPES_OF_WIDE.map((_, n) => `v${n}`).join(", ")} FROM ${table}`,
        );
        await run(`UPDATE ${table} SET id = id + 1000 WHERE id < 2`);
        await run(`UPDATE ${table} SET v0 = v0 WHERE id < 100`);
        await run(`DELETE FROM ${table} WHERE id = 101`);
      }
    });
    await untilEqual([a, b], Object.fromEntries(WIDE.map(({ table }) => [table, "id"])));
    for (const { table } of WIDE) {
      const [row] = await b.sql.unsafe(`SELECT count(*)::int AS n FROM ${table}`);
      expect([table, row?.n]).toEqual([table, 2 * LONGEST - 1]);
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
    expect(code).toBe(3);
    expect(stderr).toContain("keyless");
    expect(stderr).toContain("PRIMARY KEY");
    expect(stderr).not.toContain("    at ");
  });
});
