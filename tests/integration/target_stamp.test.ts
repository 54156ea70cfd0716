import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { deletesSql, replacesSql } from "../../adapters/postgres/target/conflicts/stamp_sql.ts";
import { type ConflictPolicy, deletes, replaces, type StampedRow } from "../../src/core/stamp.ts";
import { describeWith } from "../support/needs.ts";
import { chunk, openTarget, row, setUp, type Target } from "../support/target_fixture.ts";
import { until } from "../support/until.ts";

/** Few values, so that ties are common; texts that sort differently by UTF-16 units, by bytes and by a locale. */
const text = fc.oneof(
  fc.constantFrom("", "a", "A", "ab", "Zone", "active", "é", "e\u0301", "\uffff", "🦔", "\u{10ffff}", "\ue000"),
  fc.string({ unit: "grapheme", maxLength: 4 }).filter((value) => !value.includes("\u0000") && value.isWellFormed()),
);
const stamped = fc.record({
  stamp: fc.record({
    version: fc.oneof(fc.bigInt(0n, 2n), fc.constantFrom(2n ** 53n, 2n ** 53n + 1n, 2n ** 63n - 1n)),
    updatedAt: fc.oneof(fc.bigInt(0n, 2n), fc.bigInt(-62_000_000_000_000_000n, 9_000_000_000_000_000n)),
    updatedBy: text,
  }),
  text,
});

describeWith("postgres", "Target store, the rule of stamps", () => {
  const opened: Target[] = [];
  afterAll(async () => {
    for (const target of opened) await target.close();
  });

  test("I6: SQL and TypeScript decide alike, for both policies, ties included", async () => {
    const target = await openTarget("CREATE TABLE users (id int PRIMARY KEY);");
    opened.push(target);
    const cases = fc.sample(fc.tuple(stamped, stamped, fc.constantFrom<ConflictPolicy>("version", "latest")), 10_000);
    const part = (name: string) => ({
      version: `(p->'${name}'->>'version')::bigint`,
      updatedAt: `(timestamptz 'epoch' + ((p->'${name}'->>'updatedAt')::bigint / 1000000) * interval '1 s' + ((p->'${name}'->>'updatedAt')::bigint % 1000000) * interval '1 us')`,
      updatedBy: `(p->'${name}'->>'updatedBy')`,
      text: `(p->'${name}'->>'text') COLLATE pg_catalog."C"`,
    });
    const flat = ({ stamp, text }: StampedRow) => ({
      ...stamp,
      version: `${stamp.version}`,
      updatedAt: `${stamp.updatedAt}`,
      text,
    });
    const sql = (policy: ConflictPolicy) =>
      `(${replacesSql(part("a"), part("b"), policy)})::int || ' ' || (${deletesSql(part("a"), part("b"), policy)})::int`;
    const rows = await target.db.query<{ answer: string }>(
      `SELECT CASE p->>'policy' WHEN 'version' THEN ${sql("version")} ELSE ${sql("latest")} END AS answer
       FROM json_array_elements($1::text::json) WITH ORDINALITY AS e(p, n) ORDER BY n`,
      [JSON.stringify(cases.map(([a, b, policy]) => ({ a: flat(a), b: flat(b), policy })))],
    );
    const ours = cases.map(
      ([a, b, policy]) => `${Number(replaces(a, b, policy))} ${Number(deletes(a.stamp, b.stamp, policy))}`,
    );
    expect(rows.map(({ answer }) => answer)).toEqual(ours);
  });

  for (const policy of ["version", "latest"] as const) {
    test(`I6: what is in the table after any arrival order is what the rule says (${policy})`, async () => {
      const target = await openTarget(`CREATE TABLE users (id int PRIMARY KEY, name text);
        SELECT public.setup_table_for_replication('users', '{"conflict":"${policy}"}');`);
      opened.push(target);
      const change = fc.record({
        version: fc.integer({ min: 1, max: 3 }),
        second: fc.integer({ min: 0, max: 2 }),
        by: fc.constantFrom("a", "b"),
        name: fc.constantFrom("x", "y"),
        dead: fc.boolean(),
      });
      const histories = fc.sample(fc.array(change, { minLength: 2, maxLength: 6 }), 60);
      for (const [id, history] of histories.entries()) {
        const line = ({ version, second, by, name, dead }: (typeof history)[number]) =>
          chunk("users", dead ? "DELETE" : "SNAPSHOT", [
            row(version, dead ? { id } : { id, name }, { at: `2026-01-01T00:00:0${second}+00:00`, by }),
          ]);
        // Half of them as one group, half one by one.
        if (id % 2 === 0) await target.feed.apply(...history.map(line));
        else for (const one of history) await target.feed.apply(line(one));
      }
      const expected = histories.flatMap((history, id) => {
        const rows = history.map(({ version, second, by, name, dead }) => ({
          dead,
          name,
          row: {
            stamp: { version: BigInt(version), updatedAt: BigInt(second), updatedBy: by },
            text: `(${id},${name})`,
          },
        }));
        const alive = rows.filter(
          ({ dead, row }) => !dead && !rows.some((other) => other.dead && deletes(other.row.stamp, row.stamp, policy)),
        );
        const winner = alive.find(({ row }) => !alive.some((other) => replaces(other.row, row, policy)));
        return winner ? [`${id} ${winner.name} ${winner.row.stamp.version}`] : [];
      });
      expect(await target.column("SELECT id || ' ' || name || ' ' || version FROM users ORDER BY id")).toEqual(
        expected,
      );
    });
  }

  test("A4: a row inserted while a concurrent local DELETE of it commits does not outlive its tombstone", async () => {
    const target = await openTarget(`CREATE TABLE users (id int PRIMARY KEY, name text);${setUp("users")}`);
    opened.push(target);
    await target.db.execute("INSERT INTO users (id, name) VALUES (1, 'a')");
    await target.db.execute("UPDATE users SET name = 'b'");
    const local = await target.db.reserve();
    await local.script("BEGIN; DELETE FROM users WHERE id = 1");
    // Version 2 is beaten by the tombstone, version 3, which this statement cannot see while it waits for the DELETE.
    const applying = target.feed.apply(chunk("users", "UPDATE", [row(2, { id: 1, name: "late" }, { by: "zz" })]));
    await waiting(target);
    await local.script("COMMIT");
    local.release();
    expect(await applying).toMatchObject({ changes: 1, applied: 0, beaten: 1, overridden: 0, parked: 0 });
    expect(await target.column("SELECT name FROM users")).toEqual([]);
  });
});

async function waiting(target: Target): Promise<void> {
  await until("the upsert waits for the local DELETE", async () => {
    const [count] = await target.column(
      "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    );
    return count === "1";
  });
}
