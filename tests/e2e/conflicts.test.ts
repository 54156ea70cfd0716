/** Two contours write the same rows while they do not hear each other: what an operator is told of it afterwards. */
import { afterEach, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { untilEqual } from "./harness.ts";
import { openPair, type Pair } from "./pair.ts";

const DDL = `CREATE TABLE users (id bigint PRIMARY KEY, name text, score numeric);
CREATE TABLE payments (id bigint PRIMARY KEY, user_id bigint REFERENCES users, amount numeric);`;

interface Line {
  readonly id: number;
  readonly table: string;
  readonly record_id: string;
  readonly winner: string;
  readonly reason: string;
  readonly torn: boolean;
}

const told = (lines: readonly Line[]) =>
  lines
    .map(({ record_id, winner, reason, torn }) => ({ record_id, winner, reason, torn }))
    .sort((x, y) => x.record_id.localeCompare(y.record_id));

describeWith(["nats", "postgres"], "conflicts over nats", () => {
  let pair: Pair | undefined;
  afterEach(async () => {
    await pair?.close();
  });

  test("what two contours wrote apart is listed at both, with both images, and counted; what they write in turn is not", async () => {
    pair = await openPair({ broker: "nats", ddl: DDL, tables: [{ name: "users" }, { name: "payments" }] });
    const { a, b } = pair;
    const first = await Promise.all([a.start(), b.start()]);
    await a.sql`INSERT INTO users SELECT n, 'both', 1 FROM generate_series(1, 5) n`;
    await untilEqual([a, b], { users: "id", payments: "id" });
    for (const turn of [1, 2, 3]) {
      await (turn % 2 === 0 ? a : b).sql`UPDATE users SET score = ${turn}`;
      await untilEqual([a, b], { users: "id", payments: "id" });
    }
    await Promise.all(first.map((replicator) => replicator.stop()));

    await a.sql.begin(async (sql) => {
      await sql`UPDATE users SET name = 'a', score = 0.30000000000000004 WHERE id IN (1, 2)`;
      await sql`INSERT INTO payments VALUES (1, 1, 9.90)`;
    });
    await b.sql`UPDATE users SET name = 'b' WHERE id = 1`;
    await b.sql`DELETE FROM users WHERE id = 2`;

    const [, running] = await Promise.all([a.start(), b.start()]);
    await untilEqual([a, b], { users: "id", payments: "id" });
    const list = async (contour: typeof a, ...args: string[]) => {
      const { code, stdout } = await contour.command("conflicts", "list", "--json", ...args);
      expect(code).toBe(0);
      return JSON.parse(stdout) as Line[];
    };
    // At b the older change of a loses to what was written there; the rest of its transaction is applied.
    const atB = await list(b, "--since", "1h", "--table", "users");
    expect(told(atB)).toEqual([
      { record_id: "1", winner: "local", reason: "later updated_at", torn: true },
      { record_id: "2", winner: "local", reason: "deleted here, later updated_at", torn: true },
    ]);
    const atA = await list(a);
    expect(told(atA)).toEqual([
      { record_id: "1", winner: "incoming", reason: "later updated_at", torn: false },
      { record_id: "2", winner: "incoming", reason: "deleted there, later updated_at", torn: false },
    ]);

    const shown = await b.command("conflicts", "show", String(atB.find(({ record_id }) => record_id === "1")?.id));
    expect(shown.code).toBe(0);
    expect(shown.stdout).toMatch(/^\*\s+name\s+b\s+a$/m);
    expect(shown.stdout).toMatch(/^\*\s+score\s+3\s+0\.30000000000000004$/m);
    const unknown = await b.command("conflicts", "show", "999999");
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toContain("No line of the conflict log has the id 999999");

    await until("the metrics tell of both", async () => {
      const text = await (await fetch(`http://127.0.0.1:${running.port}/metrics`)).text();
      const value = (name: string, label: string) =>
        new RegExp(`^${name}\\{[^}]*${label}[^}]*\\} (\\S+)$`, "m").exec(text)?.[1];
      return (
        value("replicator_conflicts_total", 'table="users",policy="version",winner="local"') === "2" &&
        value("replicator_torn_transactions_total", "") === "1"
      );
    });
  });
});
