/** What apply does with captured writes of its own (law 3), at tables that are polled. */
import { afterEach, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { chunk, openTarget, row, script, type Target } from "../support/target_fixture.ts";

const STAMP = "version bigint DEFAULT 1, updated_at timestamptz DEFAULT now(), updated_by text DEFAULT 'passive'";

async function polledRows(target: Target, table: string): Promise<readonly (string | null)[]> {
  const id = `(SELECT table_id FROM replicator.replicated_table WHERE table_name = '${table}')`;
  await target.db.query(`SELECT replicator.sync_begin(${id}, '0')`);
  for (let step = 0; step < 4; step++) await target.db.query(`SELECT replicator.sync_batch(${id}, 100)`);
  return target.column(
    `SELECT q.operation::text || ' ' || q.data FROM replicator.queue q WHERE q.table_id = ${id} ORDER BY q.id`,
  );
}

describeWith("postgres", "Apply at polled tables", () => {
  let target: Target | undefined;
  afterEach(() => target?.close());

  for (const stamp of ["trigger", "application"]) {
    test(`stamp ${stamp}: a parent deleted there and a child inserted here: the parent is revived, and the poll sends it`, async () => {
      const options = JSON.stringify({ capture: "none", stamp });
      target = await openTarget(`CREATE TABLE parents (id int PRIMARY KEY, v text, ${STAMP});
        CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents);
        SELECT public.setup_table_for_replication('parents', '${options}'); SELECT public.setup_table_for_replication('children');`);
      const { db, feed } = target;
      await feed.apply(chunk("parents", "INSERT", [row(1, { id: 1, v: "p" })]));
      expect(await polledRows(target, "parents")).toEqual([]);
      await script(db, "INSERT INTO children (id, parent) VALUES (7, 1)");
      await feed.apply(chunk("parents", "DELETE", [row(2, { id: 1 })]));
      expect(await target.column("SELECT v FROM parents WHERE id = 1")).toEqual(["p"]);
      const [sent = ""] = await polledRows(target, "parents");
      expect(sent).toStartWith('U {"id":1,"v":"p","version":3,');
      expect(sent).toContain('"updated_by":"passive"');
    });
  }
});
