/** adapters/postgres behind a network that swallows packets: what waits is given up, what is idle is not handed out again (I8). */
import { afterEach, expect, test } from "bun:test";
import { type Database, openDatabase } from "../../adapters/postgres/connection.ts";
import { createTargetStore } from "../../adapters/postgres/target/store.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { sharedPostgres } from "../servers/postgres.ts";
import { type SilentProxy, silentProxy } from "../servers/silent_proxy.ts";
import { describeWith } from "../support/needs.ts";
import { chunk, Feed, openTarget, row, setUp } from "../support/target_fixture.ts";
import { until } from "../support/until.ts";

describeWith("postgres", "behind a network that swallows packets", () => {
  const closers: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });

  async function open(): Promise<{ proxy: SilentProxy; url: string; database(): Database }> {
    const server = await sharedPostgres();
    const proxy = await silentProxy(server);
    closers.push(() => proxy.close());
    const url = proxy.through(server.url());
    const database = () => {
      const db = openDatabase({ url, applicationName: "silent_network", logger: silentLogger, max: 4 });
      closers.push(() => db.close());
      return db;
    };
    return { proxy, url, database };
  }

  test("a statement without a deadline of its own is given up when the server has long finished it", async () => {
    const { proxy, database } = await open();
    const db = database();
    const connection = await db.reserve();
    await connection.query("SELECT 1");
    proxy.swallow();
    // The request is lost: the backend is idle. Nothing else could tell, it might as well take an hour.
    const lost = connection.query("SELECT 2", [], { timeoutMs: 600_000 }).catch((error: unknown) => error);
    proxy.restore();
    const began = performance.now();
    expect(await lost).toMatchObject({ code: "database.answer_lost", retry: "backoff" });
    expect(performance.now() - began).toBeLessThan(20_000);
    connection.release();
    expect(await db.query("SELECT 3 AS three")).toHaveLength(1);
  }, 60_000);

  test("a statement that takes longer than that on a network that works is left alone", async () => {
    const { database } = await open();
    const rows = await database().query("SELECT pg_sleep(13), 'done' AS said", [], { timeoutMs: 600_000 });
    expect(rows[0]?.said).toBe("done");
  }, 60_000);

  test("one statement that was not answered is enough: no idle connection of any pool is handed out after it", async () => {
    const { proxy, database } = await open();
    const [one, other] = [database(), database()];
    const reserved = await Promise.all([one.reserve(), one.reserve(), other.reserve(), other.reserve()]);
    await Promise.all(reserved.map((connection) => connection.query("SELECT 1")));
    for (const connection of reserved) connection.release();
    proxy.swallow();
    await expect(one.query("SELECT 1", [], { timeoutMs: 1_500 })).rejects.toMatchObject({ code: "database.timeout" });
    proxy.restore();
    const began = performance.now();
    for (const db of [one, other]) {
      await Promise.all([db.query("SELECT 1"), db.query("SELECT 1"), db.query("SELECT 1")]);
    }
    expect(performance.now() - began).toBeLessThan(1_500);
  }, 60_000);

  test("a connection that has answered since is kept", async () => {
    const { database } = await open();
    const db = database();
    const pid = async () => (await db.query<{ pid: string }>("SELECT pg_backend_pid()::text AS pid"))[0]?.pid;
    const [busy, idle] = [await db.reserve(), await db.reserve()];
    const slow = busy.query("SELECT pg_sleep(30)", [], { timeoutMs: 1_500 }).catch((error: unknown) => error);
    const [heard] = await idle.query<{ pid: string }>("SELECT pg_backend_pid()::text AS pid");
    expect(await slow).toMatchObject({ code: "database.timeout" });
    busy.release();
    idle.release();
    expect(await pid()).toBe(heard?.pid);
  }, 60_000);

  test("the locks of a consumer that was cut off in the middle of a group go within seconds, its changes with them", async () => {
    const { proxy } = await open();
    const target = await openTarget(`CREATE TABLE users (id bigint PRIMARY KEY, name text); ${setUp("users")}`);
    closers.push(() => target.close());
    const lost = createTargetStore({
      database: { url: proxy.through(target.db.url), applicationName: "test" },
      tables: null,
      session: "auto",
      maxSkewMs: 3_600_000,
      logger: silentLogger,
    });
    closers.push(() => lost.close());
    await lost.open(AbortSignal.timeout(30_000));
    const feed = new Feed(lost);
    const transaction = await feed.begin();
    await transaction.apply([feed.batch([chunk("users", "INSERT", [row(1, { id: 1, name: "lost" })])])]);
    await until("it holds its locks", async () => {
      const states = await target.column(
        "SELECT state FROM pg_stat_activity WHERE application_name = 'replicator_consumer' AND xact_start IS NOT NULL",
      );
      return states[0] === "idle in transaction" || states;
    });
    proxy.swallow();
    // Sooner than the server's own notice of a dead connection, which comes after minutes.
    const takeOver = () => target.feed.apply(chunk("users", "INSERT", [row(1, { id: 1, name: "taken over" })]));
    await until(
      "another consumer gets the locks",
      () =>
        takeOver().then(
          () => true,
          (error: unknown) => String(error),
        ),
      30_000,
    );
    expect(await target.column("SELECT name FROM users")).toEqual(["taken over"]);
    transaction.abandon();
    await transaction.rollback();
  }, 60_000);
});
