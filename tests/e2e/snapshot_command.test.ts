/** `replicator snapshot` as an operator meets it where nobody publishes: it waits, says why, and can be stopped. */
import { afterEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { Contour } from "./harness.ts";
import { rowsDone, SnapshotProcess, untilRows } from "./snapshot_process.ts";

const NOBODY = { broker: "nats", nats: { servers: ["nats://127.0.0.1:1"], replicas: 1 } } as const;

describeWith("postgres", "replicator snapshot", () => {
  const open: Contour[] = [];
  afterEach(async () => {
    for (const contour of open.splice(0)) await contour.close();
  });

  async function contour(
    ddl: string,
    tables: readonly string[],
    user?: { name: string; password: string },
  ): Promise<Contour> {
    const server = await sharedPostgres();
    const url = await freshDatabase(server);
    const made = (configUrl?: string) =>
      new Contour({
        name: `lone-${process.pid}`,
        url,
        ...(configUrl ? { configUrl } : {}),
        broker: NOBODY,
        from: ["other"],
        tables: tables.map((name) => ({ name })),
      });
    const owner = made();
    open.push(owner);
    await owner.sql.unsafe(ddl).simple();
    await owner.prepare();
    if (!user) return owner;
    await owner.sql.unsafe(readFileSync(join(import.meta.dir, "../../sql/05_roles.sql"), "utf8")).simple();
    await owner.sql
      .unsafe(
        `CREATE ROLE ${user.name} LOGIN PASSWORD '${user.password}' IN ROLE replicator_publisher; SELECT "replicator".grant_rights()`,
      )
      .simple();
    const other = made(server.url(new URL(url).pathname.slice(1), user.name, user.password));
    open.push(other);
    return other;
  }

  test("with no publisher it stops filling the queue and says why; a second one is told who runs it; Ctrl-C ends it with 130", async () => {
    const lone = await contour(
      "CREATE TABLE big (id int PRIMARY KEY); INSERT INTO big SELECT generate_series(1, 90000)",
      ["big"],
    );
    const snapshot = new SnapshotProcess(lone);
    await untilRows(lone.sql, 50_000);
    await until(
      "it says that nobody publishes",
      () => /no publisher is running here/.test(snapshot.stderr) || snapshot.stderr,
    );
    expect(await rowsDone(lone.sql)).toBeLessThanOrEqual(56_000);
    const second = await new SnapshotProcess(lone).ended;
    expect({ code: second.code, stderr: second.stderr }).toEqual({
      code: 3,
      stderr: expect.stringMatching(/replicator: Cannot send a snapshot: \S+:\d+:[0-9a-f]{8} is sending one/),
    });
    const status = await lone.command("status", "--json");
    expect(JSON.parse(status.stdout)).toMatchObject({
      snapshots: [{ table: "big", state: "running", rows_estimated: expect.any(Number) }],
    });
    const stopped = await snapshot.kill("SIGINT");
    expect(stopped.code).toBe(130);
    expect(stopped.stderr).toMatch(
      /Stopped after 5\d,\d{3} rows\. Run replicator snapshot again: it goes on where it was/,
    );
    // the right was given up: no waiting for it
    const again = new SnapshotProcess(lone);
    await until(
      "it goes on",
      () =>
        /Going on with the snapshot that was not finished: big after 5\d{4} rows/.test(again.stderr) || again.stderr,
    );
    expect((await again.kill("SIGTERM")).code).toBe(143);
  });

  test("a small one ends in the queue; JSON for programs; what is not replicated and a bad rate are refused with 2", async () => {
    const lone = await contour(
      'CREATE TABLE "Odd ""T" (id int PRIMARY KEY); INSERT INTO "Odd ""T" SELECT generate_series(1, 30); CREATE TABLE empty (id int PRIMARY KEY); CREATE TABLE none (id int)',
      ['"Odd ""T"', "empty"],
    );
    const { code, stdout, stderr } = await lone.command("snapshot", "--json", "--exact");
    expect({ code, stderr }).toMatchObject({
      code: 0,
      stderr: expect.stringContaining("wait for the broker's confirmation (--wait waits for it)"),
    });
    expect(JSON.parse(stdout)).toMatchObject({
      state: "complete",
      rows: 30,
      confirmed: false,
      tables: [
        { table: '"Odd ""T"', state: "done", rows_done: 30, rows_estimated: 30, channel: "changes" },
        { table: "empty", state: "done", rows_done: 0, rows_estimated: 0 },
      ],
    });
    for (const [args, said] of [
      [["none"], "Cannot send a snapshot of none: it is not under replication"],
      [["--rate", "fast"], 'Read --rate "fast", expected rows a second'],
    ] as const) {
      const refused = await lone.command("snapshot", ...args);
      expect({ code: refused.code, stderr: refused.stderr }).toEqual({
        code: 2,
        stderr: expect.stringContaining(said),
      });
    }
  });

  test("a member of replicator_publisher may run it, with no right on the table; what changed since is said with the remedy", async () => {
    const user = { name: `snap_${process.pid}`, password: "secret" };
    const lone = await contour(
      "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 5)",
      ["t"],
      user,
    );
    try {
      expect(await lone.command("snapshot")).toMatchObject({ code: 0 });
      await lone.sql.unsafe("ALTER TABLE t ADD COLUMN v text");
      const changed = await lone.command("snapshot", "t");
      expect({ code: changed.code, stderr: changed.stderr }).toEqual({
        code: 3,
        stderr: expect.stringMatching(
          /the columns of public\.t changed since its functions were made\n {2}Run replicator tables add public\.t and then the snapshot again/,
        ),
      });
    } finally {
      await lone.sql.unsafe(`DROP OWNED BY ${user.name}; DROP ROLE ${user.name}`).simple();
    }
  });
});
