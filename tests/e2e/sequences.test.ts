/** Two contours that insert at once into tables whose keys come from sequences: no two rows meet. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { type Contour, untilEqual } from "./harness.ts";
import { openPair, type Pair } from "./pair.ts";

const ROWS = 300;
const TABLES = ["orders", "invoices"] as const;
const DDL = `CREATE TABLE orders (id serial PRIMARY KEY, made_at text);
CREATE TABLE invoices (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, made_at text)`;

describeWith(["nats", "postgres"], "sequences at two contours", () => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await openPair({ broker: "nats", ddl: DDL, tables: TABLES.map((name) => ({ name })) });
  }, 60_000);
  afterAll(() => pair?.close());

  const findings = async (contour: Contour) => {
    const { stdout } = await contour.command("check", "--json");
    const all: { code: string; remedy: string }[] = JSON.parse(stdout);
    return all.filter(({ code }) => code === "tables.sequence");
  };
  const insert = async ({ sql, name }: Contour, count: number) => {
    for (let n = 0; n < count; n++) {
      for (const table of TABLES) await sql`INSERT INTO ${sql(table)} (made_at) VALUES (${name})`;
    }
  };

  test("as check advises, both insert at the same time and all rows arrive, each the one that was inserted", async () => {
    const { a, b } = pair;
    // Rows from before: the slots begin above them, at both.
    await a.sql`INSERT INTO orders VALUES (41, 'before')`;
    await b.sql`INSERT INTO orders VALUES (40, 'before')`;
    const commands = await Promise.all([a, b].map(findings));
    expect(commands.map((of) => of.map(({ remedy }) => remedy.split(" -- ")[0]))).toEqual([
      [
        "ALTER TABLE public.invoices ALTER COLUMN id SET START WITH 1 SET INCREMENT BY 2 RESTART WITH 1;",
        "ALTER SEQUENCE public.orders_id_seq START WITH 1 INCREMENT BY 2 RESTART WITH 43;",
      ],
      [
        "ALTER TABLE public.invoices ALTER COLUMN id SET START WITH 2 SET INCREMENT BY 2 RESTART WITH 2;",
        "ALTER SEQUENCE public.orders_id_seq START WITH 2 INCREMENT BY 2 RESTART WITH 42;",
      ],
    ]);
    // One by the command, one by its own statements.
    const placed = await a.command("tables", "add", "--sequence-slot", "1/2");
    expect([placed.code, placed.stderr]).toEqual([0, expect.stringContaining("goes on at 43, counting by 2")]);
    for (const { remedy } of commands[1] ?? []) await b.sql.unsafe(remedy);
    expect(await Promise.all([a, b].map(findings))).toEqual([[], []]);

    await Promise.all([a.start(), b.start()]);
    await Promise.all([insert(a, ROWS), insert(b, ROWS)]);
    await untilEqual([a, b], { orders: "id", invoices: "id" });
    for (const table of TABLES) {
      const rows =
        await b.sql`SELECT made_at, count(*)::int AS n FROM ${b.sql(table)} WHERE made_at <> 'before' GROUP BY 1 ORDER BY 1`;
      expect([...rows]).toEqual([
        { made_at: a.name, n: ROWS },
        { made_at: b.name, n: ROWS },
      ]);
    }
    for (const { sql } of [a, b])
      expect(await sql`SELECT FROM conflict_log UNION ALL SELECT FROM inbox`).toHaveLength(0);
    // What has arrived from the other contour moves nothing.
    expect(await Promise.all([a, b].map(findings))).toEqual([[], []]);
  }, 120_000);
});
