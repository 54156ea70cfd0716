/** Names that only quoting keeps apart from SQL, from PL/pgSQL and from what our own statements are made of (I10). */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type Contour, untilEqual } from "./harness.ts";
import { openPair, type Pair } from "./pair.ts";

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

/** Reserved words, names inside our generated code, quotes of every kind, placeholders, other alphabets, the longest name. */
const COLUMNS = [
  "select",
  "two words",
  "new",
  "old",
  "t",
  "r",
  "c",
  "q",
  "f",
  "x",
  "c1",
  "ord",
  "data",
  "key",
  "value",
  "row",
  "line",
  "op",
  "captured",
  "source",
  "excluded",
  "new_rows",
  "old_rows",
  "table_id",
  "replicator_line",
  "user",
  "NULL",
  'Колонка"x',
  "it's",
  "back\\slash",
  "a$body$b",
  "$function$",
  "$1",
  "%s %1$I",
  "{}",
  "comma, (bracket)",
  "semi; --",
  "/* comment",
  "名前 😀",
  "UPPER",
  "upper",
  "й".repeat(31),
];
const KEYS = [
  ["data", "new"],
  ["t"],
  ["old", "two words", 'Колонка"x'],
  ["a$body$b"],
  ["select", "it's"],
  ["%s %1$I"],
  ["back\\slash", "q"],
  ["$1", "c1"],
];

const typeOf = (place: number) => ["text", "text", "json", "text[]"][place % 4];

/** The stamp's columns are called so, too. */
const STAMP = {
  DATABASE_COLUMNS_VERSION: 'Row "version" $body$',
  DATABASE_COLUMNS_UPDATED_AT: "%s at",
  DATABASE_COLUMNS_UPDATED_BY: "by; --",
};

interface Named {
  readonly table: string;
  readonly key: readonly string[];
  readonly capture: "row" | "statement";
  readonly topic: boolean;
}

/** Both capture forms and both kinds of channel, each with two keys. */
const TABLES: readonly Named[] = KEYS.map((key, n) => {
  const [capture, topic] = [n % 2 === 0 ? "row" : "statement", n % 4 >= 2] as const;
  const schema = ["public", "My Schema", 'Схема "x"', "select"][n >> 1] ?? "public";
  return { table: `${quoted(schema)}.${quoted(`Order; "${n}" $body$ таблица`)}`, key, capture, topic };
});

const DDL = [
  `CREATE SCHEMA "My Schema"; CREATE SCHEMA "Схема ""x"""; CREATE SCHEMA "select"`,
  ...TABLES.map(({ table, key }) => {
    const columns = COLUMNS.map((name, n) => `${quoted(name)} ${key.includes(name) ? "text" : typeOf(n)}`);
    return `CREATE TABLE ${table} (${columns.join(", ")}, PRIMARY KEY (${key.map(quoted).join(", ")}))`;
  }),
].join(";\n");

/** A value for each column; `id` makes the key. */
function values({ key }: Named, id: number, text = "v"): string {
  return COLUMNS.map((name, n) => {
    if (key.includes(name)) return `'k ${id}'`;
    return [`'${text} ${n}'`, "NULL", `'{"a" :  ${id}}'`, `'{"${text}",NULL}'`][n % 4];
  }).join(", ");
}

describeWith(["nats", "postgres"], "hostile names", () => {
  let pair: Pair;
  let a: Contour;
  let b: Contour;
  beforeAll(async () => {
    const tables = TABLES.map(({ table, capture, topic }, n) => ({
      name: table,
      capture,
      ...(topic ? { topic: `names_${n % 3}` } : {}),
    }));
    Object.assign(process.env, STAMP);
    pair = await openPair({ broker: "nats", ddl: DDL, tables }).finally(() => {
      for (const name of Object.keys(STAMP)) delete process.env[name];
    });
    ({ a, b } = pair);
    await Promise.all([a.start("publisher"), b.start("consumer")]);
  }, 120_000);
  afterAll(() => pair?.close());

  const equal = () =>
    untilEqual([a, b], Object.fromEntries(TABLES.map(({ table, key }) => [table, key.map(quoted).join(", ")])));
  const nothingParked = async () => expect(await b.sql`SELECT table_name, error FROM inbox`).toHaveLength(0);
  const everywhere = async (text: (named: Named) => string) => {
    for (const named of TABLES) await a.sql.unsafe(text(named));
  };

  test("I10: rows of every operation arrive, whatever tables, keys and columns are called", async () => {
    await everywhere(
      (named) =>
        `INSERT INTO ${named.table} VALUES ${[1, 2, 3, 4, 5].map((id) => `(${values(named, id)})`).join(", ")}`,
    );
    await equal();
    await everywhere(({ table, key }) => {
      const [first = ""] = key.map(quoted);
      const changed = COLUMNS.filter((name) => !key.includes(name)).map((name) => `${quoted(name)} = NULL`);
      return `UPDATE ${table} SET ${changed.join(", ")} WHERE ${first} = 'k 2';
        UPDATE ${table} SET ${first} = 'moved' WHERE ${first} = 'k 3';
        DELETE FROM ${table} WHERE ${first} = 'k 4'`;
    });
    await everywhere(
      (named) => `INSERT INTO ${named.table} VALUES (${values(named, 1, "again")})
        ON CONFLICT (${named.key.map(quoted).join(", ")}) DO UPDATE SET "UPPER" = excluded."UPPER", "x" = excluded."x"`,
    );
    await equal();
    for (const { table, key } of TABLES) {
      const { columns } = await b.sql.unsafe(`SELECT * FROM ${table} LIMIT 1`);
      expect(columns.slice(-3).map(({ name }) => name)).toEqual(Object.values(STAMP));
      const first = quoted(key[0] ?? "");
      const [row] = await b.sql.unsafe(`SELECT string_agg(${first}, ',' ORDER BY ${first}) AS keys FROM ${table}`);
      expect([table, row?.keys]).toEqual([table, "k 1,k 2,k 5,moved"]);
    }
    await nothingParked();
  }, 120_000);

  test("a row above the message limit arrives in parts under the same names", async () => {
    await everywhere(({ table, key }) => {
      const large = COLUMNS.find((name, n) => typeOf(n) === "text" && !key.includes(name)) ?? "";
      return `UPDATE ${table} SET ${quoted(large)} = repeat('large ', 250000) WHERE ${quoted(key[0] ?? "")} = 'k 5'`;
    });
    await equal();
    await nothingParked();
  }, 120_000);

  test("TRUNCATE empties them, and new rows of old keys arrive", async () => {
    await everywhere((named) => `TRUNCATE ${named.table}; INSERT INTO ${named.table} VALUES (${values(named, 1)})`);
    await equal();
    for (const { table } of TABLES) {
      expect([table, (await b.sql.unsafe(`SELECT FROM ${table}`)).length]).toEqual([table, 1]);
    }
    await nothingParked();
  }, 120_000);

  test("a change that cannot be applied is parked under its name, applied after the DDL, and the tables are mended by name", async () => {
    const named = TABLES.find(({ topic }) => topic) as Named;
    await a.sql.unsafe(`ALTER TABLE ${named.table} ADD COLUMN "New ""one"" $body$" int`);
    await a.sql.unsafe(`UPDATE ${named.table} SET "New ""one"" $body$" = 5`);
    await until("it is parked", async () => (await b.sql`SELECT FROM inbox`).length === 1);
    await b.sql.unsafe(`ALTER TABLE ${named.table} ADD COLUMN "New ""one"" $body$" int`);
    await b.sql`UPDATE inbox SET next_attempt_at = now()`;
    await equal();
    await nothingParked();
    for (const contour of [a, b]) {
      const listed = await contour.command("tables", "list", "--json");
      const states: { table: string; state: string }[] = JSON.parse(listed.stdout);
      expect(states.filter(({ state }) => state !== "ok").map(({ table }) => table)).toHaveLength(1);
      for (const { table, state } of states) {
        if (state !== "ok") expect((await contour.command("tables", "add", table)).code).toBe(0);
      }
    }
    await a.sql.unsafe(`UPDATE ${named.table} SET "New ""one"" $body$" = 6`);
    await equal();
  }, 120_000);
});
