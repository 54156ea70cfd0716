import { afterAll, expect, test } from "bun:test";
import { connect as connectTcp, createServer, type Server, type Socket } from "node:net";
import { emptyNextSlot } from "../../adapters/postgres/target/ledger.ts";
import { createTargetStore } from "../../adapters/postgres/target/store.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { startPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { application, chunk, Feed, openTarget, row, setUp, type Target } from "../support/target_fixture.ts";
import { until } from "../support/until.ts";

const DDL = `CREATE TABLE users (id int PRIMARY KEY, name text);${setUp("users")}`;
const insert = (id: number) => chunk("users", "INSERT", [row(1, { id, name: "n" })]);

describeWith("postgres", "Target store, ledger", () => {
  const opened: Target[] = [];
  const open = async (...more: Parameters<typeof openTarget> extends [string, ...infer R] ? R : never) => {
    const target = await openTarget(DDL, ...more);
    opened.push(target);
    return target;
  };
  afterAll(async () => {
    for (const target of opened) await target.close();
  });
  const ids = (target: Target) => target.column("SELECT id FROM users ORDER BY id");

  test("a channel that was never applied has no position, and then the last one committed", async () => {
    const target = await open();
    expect(await target.store.position(target.feed.key)).toBeNull();
    await target.feed.apply(insert(1));
    await target.feed.apply(insert(2), insert(3));
    expect(await target.store.position(target.feed.key)).toEqual({
      epoch: 1,
      sequence: 3,
      cutNo: 3,
      position: { identity: "log", offset: "4" },
    });
  });

  test("I4 I8: a backend killed in the middle leaves no row and the ledger unmoved; the same batch then applies", async () => {
    const target = await open();
    await target.feed.apply(insert(1));
    const before = target.feed.position;
    const transaction = await target.feed.begin();
    const batch = target.feed.batch([insert(2)]);
    await transaction.apply([batch]);
    await until("the apply transaction waits", async () => (await idleInTransaction(target)) === 1);
    await target.db.execute(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'",
    );
    await expect(transaction.commit()).rejects.toMatchObject({ retry: "backoff" });
    await transaction.rollback();
    expect(await ids(target)).toEqual(["1"]);
    expect(await target.store.position(target.feed.key)).toEqual(before);
    await target.feed.groups([[batch]]);
    expect(await ids(target)).toEqual(["1", "2"]);
  });

  test("a rollback leaves nothing, twice is no error, and the connection can be used again", async () => {
    const target = await open();
    for (let n = 0; n < 8; n++) {
      const transaction = await target.feed.begin();
      await transaction.apply([target.feed.batch([insert(1)])]);
      await transaction.rollback();
      await transaction.rollback();
    }
    expect(await ids(target)).toEqual([]);
    expect(await idleInTransaction(target)).toBe(0);
  });

  test("a zombie that stands at an older position is refused: ledger.moved", async () => {
    const target = await open();
    await target.feed.apply(insert(1));
    const zombie = await target.feed.begin();
    const before = target.feed.position;
    await zombie.rollback();
    await target.feed.apply(insert(2));
    target.feed.position = before;
    await expect(target.feed.apply(insert(3))).rejects.toMatchObject({ code: "ledger.moved", retry: "now" });
    expect(await ids(target)).toEqual(["1", "2"]);
  });

  test("of two appliers at one position one waits for the other and is then refused", async () => {
    const target = await open();
    const other = new Feed(await target.another());
    const both = [
      { feed: target.feed, transaction: await target.feed.begin(), id: 1 },
      { feed: other, transaction: await other.begin(), id: 2 },
    ];
    const results = await Promise.allSettled(
      both.map(async ({ feed, transaction, id }) => {
        await transaction.apply([feed.batch([insert(id)])]);
        await transaction.commit();
      }),
    );
    for (const { transaction } of both) await transaction.rollback();
    const refused = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
    expect(refused).toMatchObject([{ code: "ledger.moved" }]);
    expect(await ids(target)).toEqual([results[0]?.status === "fulfilled" ? "1" : "2"]);
  });

  test("a lease is renewed by its owner, refused to others until it runs out, and its loss stops the apply", async () => {
    const target = await open();
    const { store } = target;
    const lease = await store.lease("feed", 0, "one", 60_000);
    expect(lease).toMatchObject({ owner: "one", term: 1 });
    expect(await store.lease("feed", 0, "one", 60_000)).toMatchObject({ term: 1 });
    expect(await store.lease("feed", 0, "two", 60_000)).toBeNull();
    expect(await store.lease("feed", 1, "two", 60_000)).toMatchObject({ owner: "two", term: 1 });
    if (lease) await store.releaseLease("feed", 0, lease);
    expect(await store.lease("feed", 0, "two", 60_000)).toMatchObject({ owner: "two", term: 2 });
    await target.db.execute("UPDATE replicator.lease SET expires_at = '-infinity'");
    expect(await store.lease("feed", 0, "three", 60_000)).toMatchObject({ owner: "three", term: 3 });
    const key = { source: "active", channel: "changes", partition: 0 };
    const transaction = await store.begin(key, null, "feed", { owner: "one", term: 1, expiresAt: 0 });
    await transaction.apply([target.feed.batch([insert(1)])]);
    await expect(transaction.commit()).rejects.toMatchObject({ code: "lease.lost", retry: "now" });
    await transaction.rollback();
    expect(await ids(target)).toEqual([]);
  });

  test("I4: the lost answer of a COMMIT that succeeded is found in the ledger; of one that did not, it is thrown", async () => {
    const server = await startPostgres();
    const proxy = await answersLost(server.port);
    try {
      const db = await application(server, DDL);
      const url = db.url.replace(`:${server.port}/`, `:${proxy.port}/`);
      const options = { tables: null, session: "auto", maxSkewMs: 3_600_000, logger: silentLogger } as const;
      const store = createTargetStore({ ...options, database: { url, applicationName: "test" } });
      await store.open(AbortSignal.timeout(30_000));
      const feed = new Feed(store);
      await feed.apply(insert(1));
      proxy.loseAnswersTo("COMMIT");
      expect(await feed.apply(insert(2))).toMatchObject({ applied: 1 });
      proxy.loseAnswersTo("COMMIT", false);
      await expect(feed.apply(insert(3))).rejects.toMatchObject({ retry: "backoff" });
      expect((await db.query("SELECT id FROM users ORDER BY id")).map(({ id }) => id)).toEqual(["1", "2"]);
      await store.close();
      await db.close();
    } finally {
      proxy.close();
      await server.stop("immediate");
    }
  });

  test("the position survives the emptying of the ring's slots", async () => {
    const target = await open();
    const { feed, db } = target;
    await feed.apply(insert(1));
    const position = await target.store.position(feed.key);
    expect(await emptyNextSlot(db, 3)).toBe(true);
    expect(await target.column("SELECT count(*) FROM replicator.applied")).toEqual(["0"]);
    expect(await target.store.position(feed.key)).toEqual(position);
    const transaction = await feed.begin();
    await transaction.apply([feed.batch([insert(2)])]);
    await until("the apply transaction waits", async () => (await idleInTransaction(target)) === 1);
    await db.execute(
      "INSERT INTO replicator.applied (ledger_id, epoch, sequence, cut_no, slot) SELECT ledger_id, 1, 0, 0, 0 FROM replicator.ledger",
    );
    // An applier is under way: its slot is left alone.
    expect(await emptyNextSlot(db, 3)).toBe(false);
    await transaction.commit();
    expect(await ids(target)).toEqual(["1", "2"]);
  });

  test("objects that are missing, and replica mode that is refused, end open() with a remedy", async () => {
    const target = await open();
    const { db } = target;
    const signal = AbortSignal.timeout(30_000);
    const options = { tables: null, maxSkewMs: 1_000, logger: silentLogger };
    const role = `target_${process.pid}`;
    await db.execute(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`);
    const url = new URL(db.url);
    url.username = role;
    url.password = "secret";
    const asRole = (session: "auto" | "replica") =>
      createTargetStore({ ...options, session, database: { url: url.href, applicationName: "test" } });
    const denied = asRole("auto");
    await expect(denied.open(signal)).rejects.toMatchObject({ code: "database.not_authorized", retry: "never" });
    await denied.close();
    await db.execute(`GRANT USAGE ON SCHEMA replicator TO ${role}`);
    await db.execute(`GRANT ALL ON ALL TABLES IN SCHEMA replicator TO ${role}`);
    await db.execute(`GRANT EXECUTE ON FUNCTION replicator.conflict_found() TO ${role}`);
    const refused = asRole("replica");
    await expect(refused.open(signal)).rejects.toMatchObject({ code: "apply.replica_refused", retry: "never" });
    await refused.close();
    const auto = asRole("auto");
    await auto.open(signal);
    expect(await target.column("SELECT role_name FROM replicator.consumer_role ORDER BY 1")).toContain(role);
    await auto.close();
    const missing = createTargetStore({
      ...options,
      session: "auto",
      database: { url: db.url, applicationName: "t", schema: "absent" },
    });
    await expect(missing.open(signal)).rejects.toMatchObject({
      code: "database.objects_missing",
      remedy: "Run: replicator setup",
    });
    await missing.close();
    await db.execute(`DROP OWNED BY ${role}`);
    await db.execute(`DROP ROLE ${role}`);
  });

  test("a referencing table that is not replicated forbids replica mode", async () => {
    const target = await openTarget(
      `${DDL} CREATE TABLE notes (id int PRIMARY KEY, user_id int REFERENCES users);`,
      "origin",
    );
    opened.push(target);
    await expect(target.another({ session: "replica" })).rejects.toMatchObject({ code: "apply.replica_refused" });
    await target.db.execute("INSERT INTO users (id) VALUES (1)");
    await target.db.execute("INSERT INTO notes VALUES (1, 1)");
    const auto = new Feed(await target.another({ session: "auto" }));
    // Refused by PostgreSQL's own foreign key: the parent is revived.
    expect(await auto.apply(chunk("users", "DELETE", [row(9, { id: 1 })]))).toMatchObject({ overridden: 1 });
  });

  test("I10: only the tables that are allowed are written, and only for known contours", async () => {
    const target = await openTarget(`${DDL} CREATE TABLE other (id int PRIMARY KEY);${setUp("other")}`, "auto", {
      tables: ["public.users"],
      contours: ["active"],
    });
    opened.push(target);
    const outcome = await target.feed.apply(insert(1), chunk("other", "INSERT", [row(1, { id: 1 })]));
    expect(outcome).toMatchObject({ applied: 1, parked: 1 });
    expect(await target.column("SELECT count(*) FROM other")).toEqual(["0"]);
    await expect(new Feed(target.store, "stranger").apply(insert(2))).rejects.toMatchObject({
      code: "apply.unknown_contour",
    });
  });
});

async function idleInTransaction(target: Target): Promise<number> {
  const [count] = await target.column(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'replicator_consumer' AND state LIKE 'idle in transaction%'",
  );
  return Number(count);
}

interface Proxy {
  readonly port: number;
  /** The next message that holds `text` is passed on (or not), its answer never; then the connection is cut. */
  loseAnswersTo(text: string, passOn?: boolean): void;
  close(): void;
}

function answersLost(port: number): Promise<Proxy> {
  let trap: { text: string; passOn: boolean } | null = null;
  const sockets = new Set<Socket>();
  const server: Server = createServer((client) => {
    const upstream = connectTcp(port, "127.0.0.1");
    let lost = false;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
    }
    const cut = () => {
      client.destroy();
      upstream.end();
    };
    client.on("data", (data) => {
      if (trap && data.toString("latin1").includes(trap.text)) {
        lost = true;
        const { passOn } = trap;
        trap = null;
        if (!passOn) {
          upstream.destroy();
          client.destroy();
          return;
        }
        // The server's answer means that it has committed.
        upstream.once("data", cut);
      }
      upstream.write(data);
    });
    upstream.on("data", (data) => void (lost || client.write(data)));
    client.on("close", () => upstream.end());
    upstream.on("close", () => client.destroy());
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve({
        port: typeof address === "object" && address ? address.port : 0,
        loseAnswersTo(text, passOn = true) {
          trap = { text, passOn };
        },
        close() {
          for (const socket of sockets) socket.destroy();
          server.close();
        },
      });
    });
  });
}
