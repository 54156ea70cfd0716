/** Values and names as captured: every type with its extremes, hostile session settings, hostile names (I7). */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { captured, contents, type Database, freshSetup, replay } from "./database.ts";
import { HOSTILE, MATRIX } from "./type_matrix.ts";

describeWith("postgres", "values and names", () => {
  let db: Database;
  const present = new Set<string>();
  beforeAll(async () => {
    db = await freshSetup();
    await db.run(`CREATE TYPE mood AS ENUM ('so so', 'ok'); CREATE TYPE pair AS (a int, b text, c float8);
      CREATE DOMAIN jdomain AS jsonb; CREATE DOMAIN pg_temp_domain AS int CHECK (VALUE > 0)`);
    for (const { name } of await db.sql`SELECT name FROM pg_available_extensions WHERE name IN ('hstore', 'citext')`) {
      await db.run(`CREATE EXTENSION ${name}`);
      present.add(name);
    }
  });
  afterAll(() => db.close());

  for (const form of ["row", "statement"] as const) {
    test(`values travel as PostgreSQL's text whatever the session's settings, ${form} form (I7)`, async () => {
      const types = MATRIX.filter(([type]) => !["hstore", "citext"].includes(type) || present.has(type));
      const columns = types.map(([type], n) => `c${n} ${type}`).join(", ");
      await db.run(`CREATE TABLE matrix_${form} (id int PRIMARY KEY, ${columns}, made int GENERATED ALWAYS AS (id + 1) STORED);
        SELECT setup_table_for_replication('matrix_${form}', '{"capture":"${form}"}')`);
      const depth = Math.max(...types.map(([, , values]) => values.length));
      const hostile = db.connect();
      // written by a session that means well (the literals are ISO), then touched by a hostile one
      for (let row = 0; row < depth; row++) {
        const values = types.map(([type, , all]) => `${literal(all[row % all.length] ?? "")}::${type}`).join(", ");
        await db.run(
          `INSERT INTO matrix_${form} (id, ${types.map((_, n) => `c${n}`).join(", ")}) VALUES (${row}, ${values})`,
        );
      }
      await db.run(`INSERT INTO matrix_${form} (id) VALUES (99)`);
      await hostile
        .unsafe(
          `${HOSTILE} UPDATE matrix_${form} SET c0 = c0; UPDATE matrix_${form} SET id = -1 WHERE id = 0; DELETE FROM matrix_${form} WHERE id = 1`,
        )
        .simple();
      // what the target does: the JSON text declared as text, cast to the column's type, compared as text with the row
      const declared = types.map(([type, friendly], n) => `c${n} ${friendly ? type : "text"}`).join(", ");
      const back = types
        .map(([type], n) => `(r.c${n}::${type})::text IS NOT DISTINCT FROM m.c${n}::text AS c${n}`)
        .join(", ");
      const [line] = await db.sql.unsafe<{ n: number; data: string }[]>(`
        SELECT count(*)::int AS n, '[' || string_agg(q.data, ',') || ']' AS data FROM "replicator".queue q JOIN "replicator".replicated_table t USING (table_id)
         WHERE t.table_name = 'matrix_${form}' AND q.operation IN ('I', 'U')`);
      const compared = await db.sql.unsafe(
        `
        SELECT m.id, ${back} FROM json_to_recordset($1::text::json) AS r(id int, version bigint, ${declared}) JOIN matrix_${form} m ON m.id = r.id AND m.version = r.version`,
        [line?.data ?? ""],
      );
      expect(compared.length).toBe(depth);
      const wrong = compared.flatMap((row) =>
        types.flatMap(([type], n) => (row[`c${n}`] === true ? [] : [`${row.id}: ${type}`])),
      );
      expect(wrong).toEqual([]);
      // pinned where the text depends on a setting: the hostile session's line and the friendly one's are the same text
      const changes = await captured(db.sql, `matrix_${form}`);
      const of = (operation: string, id: number) =>
        changes.find((change) => change.operation === operation && change.row.id === id)?.row ?? {};
      for (const [n, [type, friendly]] of types.entries()) {
        if (friendly && type.startsWith("timestamptz")) continue; // the same instant, its offset is the session's
        if (type.startsWith("timestamptz") || type === "tstzrange") continue;
        expect([type, of("U", 2)[`c${n}`]]).toEqual([type, of("I", 2)[`c${n}`]]);
      }
      expect(changes[0]?.row).not.toHaveProperty("made");
      expect(changes.find(({ operation, row }) => operation === "D" && row.id === 1)?.old).not.toHaveProperty("made");
    });

    test(`hostile names and composite keys, ${form} form`, async () => {
      const name = `"Таблица ${form} %s $replicator$ ""q"""`;
      const columns = [
        "t",
        "new",
        "old",
        "data",
        "r",
        "line",
        "captured",
        "op",
        "by",
        "loop",
        "bound",
        "x",
        "select",
        "source",
        "кол онка",
        'qu"ote',
        "per%cent",
        "replicator_row",
        "OLD",
        "v",
        "u",
        "xid",
        "gone",
        "d",
        "s",
        "f",
      ];
      const quoted = columns.map((column) => `"${column.replaceAll('"', '""')}"`);
      await db.run(`CREATE TABLE ${name} (${quoted.map((column) => `${column} text`).join(", ")}, tags text[], PRIMARY KEY (${quoted.slice(0, 20).join(", ")}));
        SELECT setup_table_for_replication('${name}', '{"capture":"${form}"}')`);
      for (const tags of ["", ", DROP COLUMN tags"]) {
        await db.run(`INSERT INTO ${name} (${quoted.join(", ")}) SELECT ${quoted.map((_, n) => `'v${n}' || i`).join(", ")} FROM generate_series(1, 3) i;
          UPDATE ${name} SET ${quoted.at(-1)} = 'changed'; UPDATE ${name} SET "new" = 'moved' WHERE "t" = 'v01'; DELETE FROM ${name} WHERE "t" = 'v02'`);
        const key = columns.slice(0, 20);
        const held = await contents(db.sql, name, key);
        expect(held.size).toBe(2);
        expect(replay(await captured(db.sql, name), key)).toEqual(held);
        expect((await db.sql`SELECT * FROM replication_queue`).length).toBeGreaterThan(7);
        // again with all columns JSON-friendly: the other way lines are made
        if (tags === "")
          await db.run(
            `TRUNCATE ${name}; ALTER TABLE ${name} ${tags.slice(2) || "DROP COLUMN tags"}; SELECT "replicator".refresh_stale_tables()`,
          );
      }
      await db.run(`SELECT remove_table_from_replication('${name}')`);
    });
  }

  test("a key of citext is compared as citext, one of an enum or bytea travels as text", async () => {
    await db.run(`CREATE TABLE odd_keys (m mood, b bytea, ${present.has("citext") ? "c citext" : "c text"}, v int, PRIMARY KEY (m, b, c));
      SELECT setup_table_for_replication('odd_keys'); INSERT INTO odd_keys VALUES ('ok', '\\x01', 'Key', 1)`);
    await db.run(
      `SET bytea_output = 'escape'; UPDATE odd_keys SET v = 2; DELETE FROM odd_keys; INSERT INTO odd_keys VALUES ('ok', '\\x01', 'Key', 3); RESET bytea_output`,
    );
    const changes = await captured(db.sql, "odd_keys");
    expect(changes.map(({ operation, row }) => [operation, row.m, row.b, row.c, row.version])).toEqual([
      ["I", "ok", "\\x01", "Key", 1],
      ["U", "ok", "\\x01", "Key", 2],
      ["D", "ok", "\\x01", "Key", 3],
      ["I", "ok", "\\x01", "Key", 4],
    ]);
  });
});

function literal(value: string): string {
  return `E'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
