/** verify while changes flow: what is on its way is told from what differs by positions, never by time. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { openVerifySide } from "../../adapters/postgres/admin/verify.ts";
import type { Database } from "../../adapters/postgres/connection.ts";
import { createSourceStore } from "../../adapters/postgres/source/store.ts";
import { systemClock } from "../../src/core/clock.ts";
import { silentLogger } from "../../src/core/logger.ts";
import type { SourceStore } from "../../src/core/source_store.ts";
import type { TableReport } from "../../src/verify/report.ts";
import { verify } from "../../src/verify/verify.ts";
import { sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { application, openTarget, script, setUp, type Target } from "../support/target_fixture.ts";

setDefaultTimeout(120_000);
const { signal } = new AbortController();
const DDL = `CREATE TABLE t (id int PRIMARY KEY, v text); ${setUp("t")}`;
const closers: (() => Promise<void>)[] = [];

interface Sites {
  readonly source: Database & { url: string };
  readonly target: Target;
  /** Sends what was captured since; `confirm`: the broker has it; `apply`: so has the target. */
  send(confirm: boolean, apply: boolean): Promise<void>;
  compare(waitMs?: number, afterMark?: () => Promise<void>): Promise<TableReport>;
}

async function sites(): Promise<Sites> {
  const source = await application(await sharedPostgres(), `SELECT "replicator".set_contour('active'); ${DDL}`);
  const target = await openTarget(DDL);
  const store: SourceStore = createSourceStore({
    database: { url: source.url, applicationName: "replicator_publisher" },
    contour: "active",
    logger: silentLogger,
  });
  await store.open(signal);
  await store.setLayout([{ name: "changes", partitions: 1, tables: [] }]);
  const cutter = await store.lease("cutter", "", "test", 600_000);
  const owner = await store.lease("channel", "changes", "test", 600_000);
  if (!cutter || !owner) throw new Error("A lease is somebody else's");
  let sequence = 0;
  const sides = [source.url, target.db.url].map((url) => openVerifySide({ url, logger: silentLogger }));
  closers.push(
    () => store.close(),
    () => source.close(),
    () => target.close(),
    ...sides.map((side) => () => side.close()),
  );
  const [here, there] = sides;
  if (!here || !there) throw new Error("Two sides were opened");
  return {
    source,
    target,
    async send(confirm, apply) {
      const cut = await store.takeCut(cutter, 900_000);
      if (!cut) throw new Error("Nothing was captured");
      for await (const chunks of store.readChunks(cut, "changes", signal)) {
        sequence++;
        if (apply) await target.feed.groups([[target.feed.batch(chunks)]]);
      }
      if (confirm) await store.confirm("changes", owner, cut, [sequence]);
    },
    async compare(waitMs = 0, afterMark) {
      const watched = async (until: AbortSignal) => {
        const mark = await here.mark(until);
        await afterMark?.();
        return mark;
      };
      const report = await verify({
        here: { ...bound(here), mark: watched },
        there,
        hereFacts: await here.facts(signal),
        tables: ["t"],
        limit: 10,
        waitMs,
        chunkRows: 100,
        clock: systemClock,
        signal,
        onProgress: () => undefined,
      });
      const [table] = report.tables;
      if (!table) throw new Error("One table was asked for");
      return table;
    },
  };
}

/** Its methods as members of a plain object. */
function bound(side: ReturnType<typeof openVerifySide>): ReturnType<typeof openVerifySide> {
  return {
    label: side.label,
    facts: (...given) => side.facts(...given),
    replicated: (...given) => side.replicated(...given),
    shape: (...given) => side.shape(...given),
    rows: (...given) => side.rows(...given),
    mark: (...given) => side.mark(...given),
    published: (...given) => side.published(...given),
    applied: (...given) => side.applied(...given),
    close: () => side.close(),
  };
}

describeWith("postgres", "verify while changes flow", () => {
  afterAll(async () => {
    for (const close of closers) await close();
  });

  test("a change that is captured, or confirmed and not applied, is in flight; applied it is equal", async () => {
    const { source, send, compare } = await sites();
    await script(source, "INSERT INTO t VALUES (1, 'a')");
    await send(true, true);
    expect(await compare()).toMatchObject({ verdict: "equal", rows_here: 1, in_flight: 0 });
    await script(source, "INSERT INTO t VALUES (2, 'a'); UPDATE t SET v = 'b' WHERE id = 1");
    const waiting = await compare();
    expect(waiting).toMatchObject({ verdict: "in flight", in_flight: 2, only_here: 0, different: 0 });
    expect(waiting.differences.map(({ in_flight }) => in_flight)).toEqual([true, true]);
    expect(waiting.lag_seconds).toBeGreaterThan(0);
    await send(true, false);
    expect(await compare()).toMatchObject({ verdict: "in flight", in_flight: 2 });
  });

  test("a row that differs is different although other changes are under way all the time", async () => {
    const { source, target, send, compare } = await sites();
    await script(source, "INSERT INTO t VALUES (1, 'a'), (2, 'a')");
    await send(true, true);
    await script(target.db, "SET replicator.capture = 'off'; UPDATE t SET v = 'spoiled' WHERE id = 1");
    // Written after each mark: the queue is never empty, and all of it is newer than the look at the row.
    let n = 10;
    const busy = async () => {
      await script(source, `INSERT INTO t VALUES (${++n}, 'new')`);
    };
    expect(await compare(0, busy)).toMatchObject({ verdict: "different", different: 1, in_flight: 0 });
    expect((await compare(0)).differences.map(({ kind, in_flight }) => [kind, in_flight])).toContainEqual([
      "different",
      true,
    ]);
  });

  test("what arrives while it is waited for is equal, without waiting to the end", async () => {
    const { source, send, compare } = await sites();
    await script(source, "INSERT INTO t VALUES (1, 'a')");
    await send(true, true);
    await script(source, "INSERT INTO t VALUES (2, 'late')");
    let sent = false;
    const report = await compare(600_000, async () => {
      if (sent) return;
      sent = true;
      await send(true, true);
    });
    expect(report).toMatchObject({ verdict: "equal", in_flight: 0 });
  });

  test("a row of a polled table that was written after the last poll is in flight, before it different", async () => {
    const server = await sharedPostgres();
    const ddl = `CREATE TABLE t (id int PRIMARY KEY, v text); SELECT setup_table_for_replication('t', '{"capture": "none"}');`;
    const here = await application(server, `SELECT "replicator".set_contour('active'); ${ddl}`);
    const there = await application(server, ddl);
    const sides = [here.url, there.url].map((url) => openVerifySide({ url, logger: silentLogger }));
    closers.push(
      () => here.close(),
      () => there.close(),
      ...sides.map((side) => () => side.close()),
    );
    const [left, right] = sides as [(typeof sides)[number], (typeof sides)[number]];
    const compare = async () => {
      const hereFacts = await left.facts(signal);
      const options = { tables: ["t"], limit: 10, waitMs: 0, chunkRows: 100, clock: systemClock, signal };
      return (await verify({ ...options, here: left, there: right, hereFacts, onProgress: () => undefined })).tables[0];
    };
    await script(here, "INSERT INTO t VALUES (1, 'a')");
    expect(await compare()).toMatchObject({ verdict: "in flight", in_flight: 1 });
    // A run that has read everything stamped before it.
    const poll = () =>
      script(
        here,
        `INSERT INTO "replicator".sync_run (table_id, run_no, marked_at, mark_xid, keep_from, phase, finished_at)
       SELECT table_id, (SELECT coalesce(max(run_no), 0) + 1 FROM "replicator".sync_run), clock_timestamp(), pg_current_xact_id(), clock_timestamp(), 'done', clock_timestamp()
         FROM "replicator".replicated_table WHERE table_name = 't'`,
      );
    await poll();
    expect(await compare()).toMatchObject({ verdict: "different", only_here: 1, in_flight: 0 });
    // A row deleted here that is still there.
    await script(there, "SET replicator.capture = 'off'; INSERT INTO t VALUES (1, 'a')");
    await script(here, "DELETE FROM t");
    expect(await compare()).toMatchObject({ verdict: "in flight", in_flight: 1 });
    await poll();
    expect(await compare()).toMatchObject({ verdict: "different", only_there: 1, in_flight: 0 });
  });
});
