/** replication_queue, processed_events and the thin names. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { type Database, freshSetup } from "./database.ts";

describeWith("postgres", "views", () => {
  let db: Database;
  let cutNo = 0;
  beforeAll(async () => {
    db = await freshSetup();
    await db.run(`CREATE TABLE users (id int PRIMARY KEY, v text); CREATE TABLE pairs (a int, b text, PRIMARY KEY (b, a));
      SELECT setup_table_for_replication('users'); SELECT setup_table_for_replication('pairs', '{"capture":"statement"}');
      INSERT INTO "replicator".epoch VALUES (1, 'x', 1, 'test')`);
  });
  afterAll(() => db.close());

  /** What the publisher does: a cut under the newest layout. */
  const cut = async () => {
    // numbers of cuts may jump, to begin the next slot of their ring
    cutNo += cutNo === 3 ? 268435456 : 1;
    await db.sql.unsafe(`
      INSERT INTO "replicator".cut (cut_no, epoch, snap_from, snap_to, layout_version, frame_bytes, splitter, term, slot)
      SELECT ${cutNo}, 1, coalesce((SELECT snap_to FROM "replicator".cut ORDER BY cut_no DESC LIMIT 1), '1:1:'), pg_current_snapshot(),
             (SELECT max(layout_version) FROM "replicator".layout), 1, 's', 1, 0`);
    return cutNo;
  };
  const confirm = (channel: string, no: number, at = "now()") =>
    db.sql.unsafe(
      `INSERT INTO "replicator".confirmed (channel, cut_no, epoch, sequences, term, confirmed_at, slot) VALUES ('${channel}', ${no}, 1, '{1}', 1, ${at}, 0)`,
    );
  const pending = async () =>
    Number((await db.sql`SELECT COUNT(*) FROM replication_queue WHERE published = FALSE`)[0]?.count);

  test("each change is one row with the names the source designs use", async () => {
    await db.run(
      `INSERT INTO users VALUES (1, 'a'); UPDATE users SET v = 'b'; INSERT INTO pairs VALUES (1, 'x'), (2, 'y'); DELETE FROM pairs; DELETE FROM users; TRUNCATE users`,
    );
    const rows =
      await db.sql`SELECT table_name, operation, record_id, old_data->>'v' AS old, new_data->>'v' AS new, published, published_at FROM replication_queue ORDER BY id`;
    expect(rows.map((row) => [row.table_name, row.operation, row.record_id, row.old, row.new])).toEqual(
      [
        ["users", "INSERT", "1", null, "a"],
        ["users", "UPDATE", "1", null, "b"],
        ["pairs", "INSERT", '{"a":1,"b":"x"}', null, null],
        ["pairs", "INSERT", '{"a":2,"b":"y"}', null, null],
        ["pairs", "DELETE", '{"a":1,"b":"x"}', null, null],
        ["pairs", "DELETE", '{"a":2,"b":"y"}', null, null],
        ["users", "DELETE", "1", "b", null],
        ["users", "TRUNCATE", null, null, null],
      ].map((row) =>
        row[0] === "pairs"
          ? [row[0], row[1], (row[2] ?? "").replace(/\{"a":(\d),"b":"(.)"\}/, '{"b":"$2","a":$1}'), row[3], row[4]]
          : row,
      ),
    );
    expect(rows.every(({ published, published_at }) => published === false && published_at === null)).toBe(true);
    const ids =
      await db.sql`SELECT id / 1048576 AS chunk, id % 1048576 AS ordinal FROM replication_queue WHERE table_name = 'pairs' ORDER BY id`;
    expect(ids.map(({ ordinal }) => Number(ordinal))).toEqual([0, 1, 0, 1]);
  });

  test("published means: in a cut that is confirmed for the row's channel", async () => {
    const first = await cut();
    expect(await pending()).toBe(8);
    await db.run(`INSERT INTO users VALUES (2, 'later')`);
    await confirm("changes", first);
    expect(await pending()).toBe(1);
    const [row] =
      await db.sql`SELECT count(*)::int AS n, bool_and(published_at IS NOT NULL) AS dated FROM replication_queue WHERE published`;
    expect(row).toEqual({ n: 8, dated: true });
    // a transaction open while the cut is taken is not published with it, though its ids are lower
    const open = db.connect();
    let before = 0;
    let second = 0;
    await open.begin(async (tx) => {
      await tx.unsafe(`INSERT INTO users VALUES (3, 'open')`);
      await db.run(`INSERT INTO users VALUES (4, 'after')`);
      second = await cut();
      await confirm("changes", second);
      before = await pending();
    });
    expect([before, await pending()]).toEqual([0, 1]);
    const [late] = await db.sql`SELECT record_id FROM replication_queue WHERE published = FALSE`;
    expect(late?.record_id).toBe("3");
  });

  test("a table that moves to a channel of its own is counted there from the next layout's first cut on", async () => {
    await confirm("changes", await cut());
    await db.run(`INSERT INTO users VALUES (10, 'old layout'); INSERT INTO pairs VALUES (10, 'old layout')`);
    const oldCut = await cut();
    const users = (await db.sql`SELECT table_id FROM "replicator".replicated_table WHERE table_name = 'users'`)[0]
      ?.table_id;
    await db.run(
      `INSERT INTO "replicator".layout VALUES (2, 'changes', 1, '{}'), (2, 'users_changes', 2, '{${users}}')`,
    );
    expect(await pending()).toBe(2);
    await db.run(`INSERT INTO users VALUES (11, 'new layout'); INSERT INTO pairs VALUES (11, 'new layout')`);
    expect(await pending()).toBe(4);
    const newCut = await cut();
    await confirm("changes", oldCut);
    expect(await pending()).toBe(2);
    await confirm("users_changes", newCut);
    const left = await db.sql`SELECT table_name FROM replication_queue WHERE published = FALSE`;
    expect(left.map(({ table_name }) => table_name)).toEqual(["pairs"]);
    await confirm("changes", newCut);
    expect(await pending()).toBe(0);
  });

  test("the monitoring queries of the source designs work as written", async () => {
    await db.run(`INSERT INTO users VALUES (20, 'x')`);
    const [lag] = await db.sql`SELECT NOW() - MAX(created_at) as lag FROM replication_queue WHERE published = FALSE`;
    expect(lag?.lag).not.toBeNull();
    const before = (await db.sql`SELECT count(*)::int AS n FROM replication_queue`)[0]?.n;
    await db.run(`DELETE FROM replication_queue WHERE published = TRUE AND published_at < NOW() - INTERVAL '7 days'`);
    await db.run(`DELETE FROM replication_queue`);
    expect((await db.sql`SELECT count(*)::int AS n FROM replication_queue`)[0]?.n).toBe(before);
    await db.run(`INSERT INTO sync_state (table_name, last_sync_timestamp) VALUES ('products', '1970-01-01'::timestamptz);
      UPDATE sync_state SET last_sync_timestamp = NOW(), last_sync_version = 3, updated_at = NOW() WHERE table_name = 'products'`);
    expect(
      (await db.sql`SELECT last_sync_version FROM sync_state WHERE table_name = 'products'`)[0]?.last_sync_version,
    ).toBe("3");
    expect((await db.sql`SELECT * FROM inbox ORDER BY created_at DESC LIMIT 5`).length).toBe(0);
    expect((await db.sql`SELECT * FROM conflict_log`).length).toBe(0);
  });

  test("processed_events shows each change with the id the sender gives it", async () => {
    await db.run(`INSERT INTO "replicator".ledger (source, channel, partition) VALUES ('beta', 'changes', 0);
      INSERT INTO "replicator".applied (ledger_id, epoch, sequence, cut_no, chunks, versions, exceptions, slot)
      SELECT ledger_id, 3, 7, 2, '[{"table":"users","operation":"INSERT","first_queue_id":"5242880","rows":2,"transaction":"9"},{"table":"pairs","operation":"DELETE","first_queue_id":"6291456","rows":1,"transaction":"9"}]',
             '{1,2,9007199254740993}', '{"1":"beaten"}', 0 FROM "replicator".ledger`);
    const rows =
      await db.sql`SELECT event_id = md5('beta:3:' || CASE operation WHEN 'INSERT' THEN '5242880:' || version - 1 ELSE '6291456:0' END)::uuid AS named,
      source_contour, table_name, operation, version, outcome FROM processed_events ORDER BY version`;
    expect([...rows]).toEqual([
      {
        named: true,
        source_contour: "beta",
        table_name: "users",
        operation: "INSERT",
        version: "1",
        outcome: "applied",
      },
      {
        named: true,
        source_contour: "beta",
        table_name: "users",
        operation: "INSERT",
        version: "2",
        outcome: "beaten",
      },
      {
        named: true,
        source_contour: "beta",
        table_name: "pairs",
        operation: "DELETE",
        version: "9007199254740993",
        outcome: "applied",
      },
    ]);
  });

  test("the backlog is counted in milliseconds at 750,000 published rows (review C1)", async () => {
    await db.run(`INSERT INTO "replicator".queue (table_id, operation, rows, data)
      SELECT 1, 'I', 1, '{"id":' || i || ',"v":"x","version":1}' FROM generate_series(1, 750000) i; ANALYZE "replicator".queue`);
    const no = await cut();
    await confirm("changes", no);
    await confirm("users_changes", no);
    await db.run(`INSERT INTO users VALUES (40, 'pending')`);
    const times: number[] = [];
    for (let n = 0; n < 7; n++) {
      const start = performance.now();
      expect(await pending()).toBe(1);
      times.push(performance.now() - start);
    }
    const median = times.sort((a, b) => a - b)[3] ?? 0;
    process.stderr.write(`backlog of 1 among 750,000: ${median.toFixed(1)} ms\n`);
    expect(median).toBeLessThan(50);
  });
});
