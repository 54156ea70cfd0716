/** Direct mode: one process, a source and a target database, no broker. The story of the seed, and its guarantees. */
import { afterEach, expect, test } from "bun:test";
import { startPostgres } from "../servers/postgres.ts";
import { silentProxy } from "../servers/silent_proxy.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type DirectPair, openDirect } from "./direct_pair.ts";
import type { Replicator } from "./harness.ts";
import { startLoad } from "./load.ts";

const USERS = `
CREATE TABLE users (user_id serial PRIMARY KEY, name text NOT NULL, email text UNIQUE NOT NULL,
                    created_at timestamp DEFAULT current_timestamp)`;

const DDL = `
CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);
CREATE TABLE events (id bigint PRIMARY KEY, v text);
CREATE TABLE many (id bigint PRIMARY KEY, v text)`;
/** One in the default channel, one in a channel of its own. */
const TABLES = [{ name: "users" }, { name: "events", topic: "events_changes" }, { name: "many", capture: "statement" }];
const ALL = { users: "id", events: "id" };
const KILLS = 10;
/** Rows of one transaction; the full form: DIRECT_ROWS=2000000. */
const ROWS = Number(process.env.DIRECT_ROWS ?? 300_000);
const SHUTDOWN_MS = 8_000;

describeWith("postgres", "direct mode", () => {
  const closers: (() => Promise<unknown>)[] = [];
  let pair: DirectPair | null = null;
  afterEach(async () => {
    await pair?.close();
    pair = null;
    for (const close of closers.splice(0).reverse()) await close();
  });

  /** /ready names the server that is away. */
  async function untilUnready(replicator: Replicator, server: string) {
    await until(
      `/ready says that the ${server} is away`,
      async () => {
        const { status, body } = await replicator.get("/ready");
        return (status === 503 && String(body.reasons).includes(server)) || body;
      },
      30_000,
    );
  }

  /** Each captured change was applied once: no event twice, none left out. */
  async function untilOnce({ source, target }: DirectPair) {
    const [captured] = await source`SELECT count(*)::int AS n FROM replication_queue`;
    const [applied] =
      await target`SELECT count(*)::int AS n, count(DISTINCT event_id)::int AS different FROM processed_events`;
    expect({ ...applied }).toEqual({ n: captured?.n, different: captured?.n });
  }

  test("the story of the seed works as written", async () => {
    pair = await openDirect({ ddl: USERS });
    const { contour, source, target } = pair;
    const setup = await contour.command("setup");
    expect(setup.code).toBe(0);
    expect(setup.stderr).toContain(`source: Contour "${contour.name}" is set up`);
    expect(setup.stderr).toContain(`target: Contour "${contour.name}-target" is set up`);
    const added = await contour.command("tables", "add", "users");
    expect({ code: added.code, said: added.stderr }).toMatchObject({ code: 0 });
    const replicator = await contour.start();

    await source.unsafe(`INSERT INTO users (name, email) VALUES
      ('Alice Johnson', 'alice@example.com'), ('Bob Smith', 'bob@example.com'), ('Charlie Brown', 'charlie@example.com')`);
    await until("the rows are at the replica", async () => {
      const rows = await target`SELECT name FROM users ORDER BY user_id`;
      return rows.map(({ name }) => name).join() === "Alice Johnson,Bob Smith,Charlie Brown" || rows;
    });
    await until("all are confirmed", async () => (await replicator.get("/status")).body.unpublished === 0);
    expect((await replicator.get("/status")).body).toMatchObject({
      last_lsn: "3",
      last_sync_time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      records_replicated: 3,
      error_count: 0,
      last_error: null,
      is_running: true,
      broker: "direct",
    });
    expect(await replicator.get("/health")).toEqual({ status: 200, body: { status: "ok" } });

    await source.unsafe("UPDATE users SET email = 'alice.j@example.com' WHERE name = 'Alice Johnson'");
    await source.unsafe("DELETE FROM users WHERE name = 'Charlie Brown'");
    await until("they changed at the replica", async () => {
      const rows = await target`SELECT email FROM users ORDER BY user_id`;
      return rows.map(({ email }) => email).join() === "alice.j@example.com,bob@example.com" || rows;
    });
    await until("five are counted", async () => {
      const { body } = await replicator.get("/status");
      return (body.records_replicated === 5 && body.last_lsn === "5" && body.unpublished === 0) || body;
    });
    const [waiting] = await source`SELECT count(*)::int AS count FROM replication_queue WHERE published = FALSE`;
    expect(waiting?.count).toBe(0);
    expect(await replicator.stop()).toBe(0);
  });

  test(`I3 I8: killed with kill -9 ${KILLS} times under load, nothing is lost and nothing applied twice`, async () => {
    pair = await openDirect({ ddl: DDL, tables: TABLES });
    const { contour, source, target } = pair;
    const load = startLoad(source, { firstId: 1, limit: 1_000_000, connections: 3 });
    closers.push(() => load.stop());
    const events = async () => {
      for (let id = 1; id <= KILLS * 20; id++) {
        await source
          .unsafe(`INSERT INTO events VALUES (${id}, 'one'); UPDATE events SET v = 'two' WHERE id = ${id}`)
          .simple();
      }
    };
    const written = events();
    const arrived = async () => Number((await target`SELECT count(*)::int AS n FROM processed_events`)[0]?.n);
    for (let kill = 0; kill < KILLS; kill++) {
      const before = await arrived();
      const replicator = await contour.start("all", false);
      await until("changes flow again", async () => (await arrived()) > before + 50 * kill, 60_000);
      await replicator.kill();
    }
    await load.stop();
    await written;
    const last = await contour.start();
    await pair.equal(ALL);
    await until("all is confirmed", async () => (await last.get("/status")).body.unpublished === 0, 30_000);
    await untilOnce(pair);
    expect((await last.get("/status")).body).toMatchObject({ parked: 0, conflicts: 0 });
  }, 300_000);

  test("a second process stands by, and goes on when the first is killed", async () => {
    pair = await openDirect({ ddl: DDL, tables: TABLES });
    const { contour, source } = pair;
    const first = await contour.start();
    await source`INSERT INTO users (id, name) VALUES (1, 'one')`;
    await pair.equal(ALL);
    const second = await contour.start();
    await source`INSERT INTO users (id, name) VALUES (2, 'two')`;
    await pair.equal(ALL);
    expect((await second.get("/status")).body).toMatchObject({ records_replicated: 0, is_running: true });
    await first.kill();
    await source`INSERT INTO users (id, name) VALUES (3, 'three')`;
    await source`INSERT INTO events (id, v) VALUES (3, 'three')`;
    await pair.equal(ALL, 30_000);
    await untilOnce(pair);
    expect((await second.get("/status")).body.records_replicated).toBe(2);
  });

  for (const side of ["source", "target"] as const) {
    test(`the ${side} database goes away and comes back: it is waited for, /ready says so, all arrives`, async () => {
      const server = await startPostgres();
      closers.push(() => server.close());
      const url = await server.createDatabase();
      pair = await openDirect({
        ddl: DDL,
        tables: TABLES,
        ...(side === "source" ? { sourceUrl: url } : { targetUrl: url }),
      });
      const { contour, source } = pair;
      const replicator = await contour.start();
      await source`INSERT INTO users (id, name) VALUES (1, 'before')`;
      await pair.equal(ALL);
      await server.stop("immediate");
      await untilUnready(replicator, `${side} database`);
      expect((await replicator.get("/health")).status).toBe(200);
      if (side === "target") {
        await source`INSERT INTO users (id, name) SELECT g, 'meanwhile' FROM generate_series(2, 5000) g`;
        await source`INSERT INTO events (id, v) VALUES (1, 'meanwhile')`;
        await until("the backlog is counted without the target", async () => {
          const { body } = await replicator.get("/status");
          return (body.unpublished === 5000 && body.last_lsn === "1") || body;
        });
      }
      await server.start();
      await until("the source takes writes", async () => {
        await source`INSERT INTO users (id, name) VALUES (10000, 'after') ON CONFLICT (id) DO NOTHING`;
        return true;
      });
      await pair.equal(ALL, 60_000);
      await replicator.ready();
      await untilOnce(pair);
      const told = contour.logs().match(new RegExp(`"${side} database does not answer`, "g")) ?? [];
      expect(told.length).toBeLessThanOrEqual(1);
      expect(await replicator.stop()).toBe(0);
    }, 120_000);
  }

  test("a target that is away at the start is waited for", async () => {
    const server = await startPostgres();
    closers.push(() => server.close());
    pair = await openDirect({ ddl: DDL, tables: TABLES, targetUrl: await server.createDatabase() });
    const { contour, source } = pair;
    await server.stop();
    const replicator = await contour.start("all", false);
    await until("it answers", async () => (await replicator.get("/health").catch(() => null))?.status === 200, 30_000);
    await untilUnready(replicator, "target database");
    await source`INSERT INTO users (id, name) VALUES (1, 'early')`;
    await server.start();
    await replicator.ready();
    await pair.equal(ALL);
  });

  test("SIGTERM while the target hangs ends in time, and the next process goes on", async () => {
    const server = await startPostgres();
    closers.push(() => server.close());
    const targetUrl = await server.createDatabase();
    const proxy = await silentProxy({ host: server.host, port: server.port });
    closers.push(() => proxy.close());
    const extra = { service: { shutdown_timeout: `${SHUTDOWN_MS}ms` } };
    pair = await openDirect({ ddl: DDL, tables: TABLES, targetUrl, configTarget: proxy.through(targetUrl), extra });
    const { contour, source } = pair;
    const replicator = await contour.start();
    await source`INSERT INTO users (id, name) VALUES (1, 'before')`;
    await pair.equal(ALL);
    proxy.swallow();
    await source`INSERT INTO users (id, name) SELECT g, 'v' FROM generate_series(2, 20000) g`;
    await untilUnready(replicator, "target database");
    const asked = performance.now();
    expect(await replicator.stop()).toBe(0);
    expect(performance.now() - asked).toBeLessThan(SHUTDOWN_MS);
    proxy.restore();
    await contour.start();
    await pair.equal(ALL);
    await untilOnce(pair);
  }, 120_000);

  test(`I11 I12: a transaction of ${ROWS} rows is one at the target, the process stays below 200 MB`, async () => {
    pair = await openDirect({ ddl: DDL, tables: TABLES });
    const { contour, source, target } = pair;
    const replicator = await contour.start();
    await source.unsafe(`INSERT INTO many SELECT g, 'value ' || g FROM generate_series(1, ${ROWS}) g`);
    const seen = new Set<number>();
    await until(
      "all rows are there",
      async () => {
        const n = Number((await target`SELECT count(*)::int AS n FROM many`)[0]?.n);
        seen.add(n);
        return n === ROWS || n;
      },
      600_000,
    );
    expect([...seen].filter((n) => n !== 0 && n !== ROWS)).toEqual([]);
    await pair.equal({ many: "id" }, 60_000);
    await until("it is confirmed", async () => (await replicator.get("/status")).body.unpublished === 0, 30_000);
    expect((await replicator.get("/status")).body.records_replicated).toBe(ROWS);
    expect(replicator.peakMegabytes()).toBeLessThan(200);
  }, 900_000);
});
