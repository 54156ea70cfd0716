/** Snapshot rows at the target (operation SNAPSHOT, in frames and in events): an upsert by stamp, never an older image. */
import { expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { openSites, type Sites } from "../support/two_sites.ts";

const DDL = `CREATE TABLE parents (id int PRIMARY KEY, name text);
CREATE TABLE t (id int PRIMARY KEY, email text UNIQUE, v text, parent int REFERENCES parents);`;
const FILL = `INSERT INTO parents SELECT i, 'p' FROM generate_series(1, 20) i;
INSERT INTO t SELECT i, 'e' || i, 'old', i FROM generate_series(1, 20) i;`;
/** Everything into the queue, a few rows at a time. */
const SNAPSHOT = `DO $$ DECLARE ended boolean; item record; BEGIN
  PERFORM "replicator".begin_snapshot((SELECT array_agg(table_id) FROM "replicator".replicated_table), 'test', true, false);
  FOR item IN SELECT table_id FROM "replicator".snapshot_order() ORDER BY place LOOP
    LOOP
      SELECT s.ended INTO ended FROM "replicator".step_snapshot(item.table_id, 'test', '1 min', 7, 1000000) s;
      EXIT WHEN ended;
    END LOOP;
  END LOOP;
END $$`;
/** As it was before the table came under replication. */
const uncaptured = (text: string) => `BEGIN; SET LOCAL replicator.capture = off; ${text}; COMMIT`;
const ROWS = "SELECT t::text AS row FROM t ORDER BY id";
const LOG = "SELECT record_id || ' ' || winner || ', ' || reason AS line FROM conflict_log ORDER BY id";

for (const kind of ["frames", "events"] as const) {
  describeWith("postgres", `a snapshot at the target, in ${kind}`, () => {
    const open = (ddl = DDL + FILL) => openSites({ ddl, tables: ["parents", "t"], kind });
    const equal = async (sites: Sites, query = ROWS) => {
      const here = await sites.rows(query);
      expect(here).toEqual(await sites.sourceRows(query));
      return here;
    };

    test("an empty target gets every row with its stamp, as processed_events tells", async () => {
      const sites = await open();
      await sites.there(uncaptured("DELETE FROM t; DELETE FROM parents"));
      await sites.source(SNAPSHOT);
      await sites.carry();
      expect(await equal(sites)).toHaveLength(20);
      const told = "SELECT DISTINCT operation || ' ' || outcome || ' ' || version AS line FROM processed_events";
      expect(await sites.rows(told)).toEqual([{ line: "SNAPSHOT applied 1" }]);
      expect(await sites.rows(LOG)).toEqual([]);
      await sites.close();
    });

    test("a target that has the same rows is not written and no conflict is listed", async () => {
      const sites = await open();
      const versions = () => sites.rows("SELECT xmin::text FROM t ORDER BY id");
      const before = await versions();
      await sites.source(SNAPSHOT);
      await sites.carry();
      expect(await versions()).toEqual(before);
      expect(await sites.rows(LOG)).toEqual([]);
      await sites.close();
    });

    test("a row changed, deleted or given another key after its chunk keeps what came later, whichever arrives first", async () => {
      for (const late of [false, true]) {
        const sites = await open();
        await sites.source(SNAPSHOT);
        if (late) await sites.carry();
        await sites.source(
          "UPDATE t SET v = 'new' WHERE id = 3; DELETE FROM t WHERE id = 4; UPDATE t SET id = 105 WHERE id = 5",
        );
        await sites.carry();
        // the older image again, after all of it
        await sites.source(`INSERT INTO "replicator".queue (table_id, operation, rows, data)
          SELECT table_id, operation, rows, data FROM "replicator".queue WHERE operation = 'S'`);
        await sites.carry();
        await equal(sites);
        expect(await sites.rows("SELECT id::text, v FROM t WHERE id IN (3, 4, 5, 105) ORDER BY t.id")).toEqual([
          { id: "3", v: "new" },
          { id: "105", v: "old" },
        ]);
        await sites.close();
      }
    });

    test("what the target deleted or wrote since stays; the rest comes", async () => {
      const sites = await open();
      await sites.there(
        "DELETE FROM t WHERE id = 7; UPDATE t SET v = 'here' WHERE id = 8; INSERT INTO t VALUES (300, 'only', 'here', 1)",
      );
      await sites.source("UPDATE t SET v = 'there' WHERE id = 9");
      await sites.source(SNAPSHOT);
      await sites.carry();
      expect(await sites.rows("SELECT id::text, v FROM t WHERE id IN (7, 8, 9, 300) ORDER BY t.id")).toEqual([
        { id: "8", v: "here" },
        { id: "9", v: "there" },
        { id: "300", v: "here" },
      ]);
      await sites.close();
    });

    test("a row of another writer that is replaced is listed with both images, so is a tie; what is older in every way is not, nor are equal ones", async () => {
      const sites = await open();
      await sites.there("UPDATE t SET v = 'here' WHERE id IN (2, 3)");
      await sites.there(uncaptured("UPDATE t SET v = 'older' WHERE id = 5"));
      await sites.source("UPDATE t SET v = 'x' WHERE id = 2; UPDATE t SET v = 'there' WHERE id = 2");
      await sites.source(SNAPSHOT);
      // only the snapshot: the changes before it went elsewhere
      await sites.source(`DELETE FROM "replicator".queue WHERE operation = 'U'`);
      await sites.carry();
      expect(await sites.rows(LOG)).toEqual([{ line: "2 incoming, greater version" }, { line: "5 local, row text" }]);
      expect(
        await sites.rows(
          "SELECT local_row::json->>'v' AS local, incoming_row::json->>'v' AS incoming FROM conflict_log ORDER BY id",
        ),
      ).toEqual([
        { local: "here", incoming: "there" },
        { local: "older", incoming: "old" },
      ]);
      await sites.close();
    });

    test("one row that replaces another writer's is listed though nothing else in its message is, and though its version is greater", async () => {
      const sites = await open();
      await sites.there("UPDATE t SET v = 'here' WHERE id = 2");
      await sites.source("UPDATE t SET v = 'x' WHERE id = 2; UPDATE t SET v = 'there' WHERE id = 2");
      await sites.source(`${SNAPSHOT}; DELETE FROM "replicator".queue WHERE operation = 'U'`);
      await sites.carry();
      expect(await sites.rows(LOG)).toEqual([{ line: "2 incoming, greater version" }]);
      await sites.close();
    });

    test("a tree whose children come before their parents in the order of the key is applied at once", async () => {
      const tree = "CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree)";
      const fill = "INSERT INTO tree SELECT i, CASE WHEN i < 40 THEN i + 1 END FROM generate_series(40, 1, -1) i";
      const sites = await openSites({ ddl: `${tree}; ${fill}`, tables: ["tree"], kind });
      await sites.there(uncaptured("DELETE FROM tree"));
      await sites.source(SNAPSHOT);
      expect(await sites.carry()).toMatchObject({ parked: 0 });
      expect(await equal(sites, "SELECT tree::text AS row FROM tree ORDER BY id")).toHaveLength(40);
      await sites.close();
    });

    test("law 3: a unique value that both gave to different rows is settled by a captured override", async () => {
      const sites = await open();
      await sites.source("UPDATE t SET email = 'taken' WHERE id = 2");
      await sites.there(uncaptured("UPDATE t SET email = 'taken' WHERE id = 1"));
      await sites.source(SNAPSHOT);
      await sites.carry();
      await sites.retry();
      expect(await sites.parked()).toEqual([]);
      const holders = await sites.rows("SELECT id::text FROM t WHERE email = 'taken'");
      expect(holders).toEqual([{ id: "2" }]);
      await sites.close();
    });
  });
}
