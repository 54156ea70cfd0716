/** adapters/postgres/connection.ts against real servers: text, deadlines, TLS, errors, a database that goes and comes. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  type Database,
  type DatabaseOptions,
  openDatabase,
  waitForDatabase,
} from "../../adapters/postgres/connection.ts";
import { type Logger, silentLogger } from "../../src/core/logger.ts";
import { type Authority, makeAuthority } from "../servers/certificates.ts";
import { type PostgresServer, sharedPostgres, startPostgres } from "../servers/postgres.ts";
import { freePort } from "../servers/scratch.ts";
import { describeWith } from "../support/needs.ts";

setDefaultTimeout(60_000);
const signal = new AbortController().signal;
const opened: Database[] = [];

function database(options: Omit<DatabaseOptions, "logger" | "applicationName">): Database {
  const db = openDatabase({ applicationName: "connection_test", logger: silentLogger, ...options });
  opened.push(db);
  return db;
}

afterAll(async () => {
  await Promise.all(opened.map((db) => db.close()));
});

describeWith("postgres", "A connection", () => {
  let url: string;
  beforeAll(async () => {
    url = (await sharedPostgres()).url();
  });

  test("I7: gives every value as PostgreSQL's text and takes every parameter as text", async () => {
    const rows = await database({ url }).query(
      `SELECT 9007199254740993::bigint AS big, true AS yes, '{"a":1.10}'::json AS j, '{"b": 2}'::jsonb AS jb, '{1,2}'::int[] AS a, NULL AS none,
              '0001-01-01 BC'::date AS d, 'infinity'::timestamptz AS t, '\\x00ff'::bytea AS b, 0.1::float8 + 0.2 AS f,
              $1::json AS pj, $2::bool AS pb, $3::timestamptz AS pt, $4::bytea AS px, $5::text AS pn`,
      ['{"z":  1.0}', "false", "2026-01-01 00:00:00.123456+00", "\\x0102", null],
    );
    expect({ ...rows[0] }).toEqual({
      big: "9007199254740993",
      yes: "t",
      j: '{"a":1.10}',
      jb: '{"b": 2}',
      a: "{1,2}",
      none: null,
      d: "0001-01-01 BC",
      t: "infinity",
      b: "\\x00ff",
      f: "0.30000000000000004",
      pj: '{"z":  1.0}',
      pb: "f",
      pt: "2026-01-01 00:00:00.123456+00",
      px: "\\x0102",
      pn: null,
    });
  });

  test("answers pipelined statements in order and survives the failure of one", async () => {
    const connection = await database({ url }).reserve();
    const asked = Array.from({ length: 500 }, (_, n) =>
      connection.query<{ n: string }>("SELECT 10 / $1::int AS n", [n % 100 === 7 ? 0 : 5]),
    );
    const settled = await Promise.allSettled(asked);
    expect(settled.filter((one) => one.status === "rejected")).toHaveLength(5);
    expect(connection.broken).toBe(false);
    connection.release();
  });

  test("ends a statement at its deadline and is replaced", async () => {
    const db = database({ url, max: 1 });
    const began = performance.now();
    await expect(db.query("SELECT pg_sleep(30)", [], { timeoutMs: 200, action: "wait" })).rejects.toMatchObject({
      code: "database.timeout",
      retry: "backoff",
    });
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(await db.query("SELECT 1 AS one")).toHaveLength(1);
  });

  test("ends a statement when the signal aborts", async () => {
    const stop = new AbortController();
    const asked = database({ url }).query("SELECT pg_sleep(30)", [], { signal: stop.signal });
    setTimeout(() => stop.abort(), 50);
    await expect(asked).rejects.toMatchObject({ name: "AbortError" });
  });

  test("keeps to its limit and hands connections on in turn", async () => {
    const db = database({ url, max: 2 });
    const pids = await Promise.all(
      Array.from({ length: 20 }, () => db.query<{ p: string }>("SELECT pg_backend_pid()::text AS p")),
    );
    expect(new Set(pids.map(([row]) => row?.p)).size).toBeLessThanOrEqual(2);
  });

  test("rolls a transaction back when its work throws, and goes on", async () => {
    const db = database({ url, max: 1 });
    const work = db.transaction(async (connection) => {
      await connection.query("CREATE TEMP TABLE torn (a int)");
      throw new Error("no more");
    });
    await expect(work).rejects.toThrow("no more");
    await expect(db.query("SELECT FROM pg_temp.torn")).rejects.toMatchObject({ code: "database.query_failed" });
  });

  test("close ends what is under way and may be called twice", async () => {
    const db = database({ url });
    const asked = db.query("SELECT pg_sleep(30)").catch((error: unknown) => error);
    await db.query("SELECT 1");
    await Promise.all([db.close(), db.close()]);
    expect(await asked).toMatchObject({ code: "database.closed" });
    await expect(db.query("SELECT 1")).rejects.toMatchObject({ code: "database.closed" });
  });

  test("refuses wrong credentials, databases and addresses with code, retry class and no secret", async () => {
    const port = await freePort();
    const cases: [string, string, string][] = [
      [(await sharedPostgres()).url("postgres", "postgres", "s3cret-wrong"), "database.auth_failed", "never"],
      [(await sharedPostgres()).url("no_such_database"), "database.missing", "never"],
      [`postgres://u:s3cret-wrong@127.0.0.1:${port}/x`, "database.unreachable", "backoff"],
      ["postgres://u:s3cret-wrong@no-such-host.invalid/x", "database.unreachable", "backoff"],
    ];
    for (const [where, code, retry] of cases) {
      const error: unknown = await database({ url: where, connectTimeoutMs: 5_000 })
        .ping()
        .catch((caught: unknown) => caught);
      expect(error).toMatchObject({ code, retry, fault: "environment" });
      expect(Bun.inspect(error)).not.toContain("s3cret-wrong");
    }
    expect(() => database({ url: "mysql://u:s3cret-wrong@x/y" })).toThrow(/^((?!s3cret).)*$/);
  });

  test("errors carry no parameters", async () => {
    const error: unknown = await database({ url })
      .query("SELECT 1 / $1::int, $2::text", [0, "s3cret-value"])
      .catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: "database.query_failed", facts: { sqlstate: "22012" } });
    expect(Bun.inspect(error, { depth: 9 })).not.toContain("s3cret-value");
  });
});

describeWith("postgres", "A database that goes and comes", () => {
  test("a silent network ends at the deadline, and waitForDatabase says so once and goes on when it is back", async () => {
    const server = await startPostgres();
    const said: string[] = [];
    const logger: Logger = { ...silentLogger, warn: (_, text) => said.push(text), info: (_, text) => said.push(text) };
    const db = database({ url: server.url(), connectTimeoutMs: 500 });
    await db.ping();
    server.pause();
    const began = performance.now();
    await expect(db.query("SELECT 1", [], { timeoutMs: 300 })).rejects.toMatchObject({ code: "database.timeout" });
    await expect(db.ping()).rejects.toMatchObject({ retry: "backoff" });
    expect(performance.now() - began).toBeLessThan(5_000);
    server.unpause();
    await server.stop("immediate");
    const waiting = waitForDatabase(db, signal, logger);
    await expect(db.ping()).rejects.toMatchObject({ code: "database.unreachable" });
    await server.start();
    await waiting;
    expect(said).toEqual(["Database is away, waiting for it", "Database answers"]);
    await server.close();
  });

  test("waitForDatabase ends at the abort, and at once when waiting cannot help", async () => {
    const stop = new AbortController();
    const away = database({ url: `postgres://u@127.0.0.1:${await freePort()}/x` });
    const waiting = waitForDatabase(away, stop.signal, silentLogger);
    setTimeout(() => stop.abort(), 100);
    await expect(waiting).rejects.toMatchObject({ name: "AbortError" });
    const refused = database({ url: (await sharedPostgres()).url("no_such_database") });
    await expect(waitForDatabase(refused, signal, silentLogger)).rejects.toMatchObject({ code: "database.missing" });
  });
});

describeWith(["postgres", "openssl"], "TLS to PostgreSQL", () => {
  let server: PostgresServer;
  let ours: Authority;
  let foreign: Authority;

  beforeAll(async () => {
    ours = makeAuthority("ours");
    foreign = makeAuthority("foreign");
    const issued = ours.issue("server", ["localhost"]);
    server = await startPostgres({
      ssl: { ca: ours.ca, cert: issued.cert, key: issued.key },
      hba: ["hostssl all certified all cert", "hostnossl all all all reject"],
    });
    await database({ ...at("localhost"), ssl: { mode: "require" } }).query("CREATE ROLE certified LOGIN");
  });
  afterAll(async () => {
    await server.close();
  });

  const at = (host: string) => ({ url: server.url(), host });
  const encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

  test("verify-full takes the right certificate and refuses a foreign authority and another name", async () => {
    const rows = await database({ ...at("localhost"), ssl: { mode: "verify-full", ca: ours.ca } }).query(encrypted);
    expect(rows[0]?.ssl).toBe("t");
    for (const [host, ca] of [
      ["localhost", foreign.ca],
      ["127.0.0.1", ours.ca],
      ["localhost", undefined],
    ] as const) {
      await expect(database({ ...at(host), ssl: { mode: "verify-full", ca } }).ping()).rejects.toMatchObject({
        code: "database.tls_failed",
        retry: "never",
      });
    }
  });

  test("verify-ca takes another name and refuses a foreign authority; require with a ca does the same", async () => {
    for (const mode of ["verify-ca", "require"] as const) {
      await database({ ...at("127.0.0.1"), ssl: { mode, ca: ours.caFile } }).ping();
      const refused = database({ ...at("127.0.0.1"), ssl: { mode, ca: foreign.caFile } }).ping();
      await expect(refused).rejects.toMatchObject({ code: "database.tls_failed" });
    }
  });

  test("require and prefer encrypt, disable does not, and require refuses a server without TLS", async () => {
    for (const mode of ["require", "prefer"] as const) {
      const rows = await database({ ...at("127.0.0.1"), ssl: { mode } }).query(encrypted);
      expect(rows[0]?.ssl).toBe("t");
    }
    await expect(database({ ...at("127.0.0.1"), ssl: { mode: "disable" } }).ping()).rejects.toMatchObject({
      code: "database.auth_failed",
    });
    const plain = (await sharedPostgres()).url();
    await database({ url: plain, ssl: { mode: "prefer" } }).ping();
    await expect(database({ url: plain, ssl: { mode: "require" } }).ping()).rejects.toMatchObject({
      code: "database.tls_failed",
    });
  });

  test("a client certificate signs in, one of a foreign authority does not, and a deadline ends a TLS connection too", async () => {
    const { certFile, keyFile } = ours.issue("certified");
    const ssl = { mode: "verify-full", ca: ours.caFile, cert: certFile, key: keyFile } as const;
    const db = database({ ...at("localhost"), user: "certified", ssl });
    expect(await db.query("SELECT 1 AS one")).toHaveLength(1);
    const other = foreign.issue("certified");
    const wrong = { ...ssl, cert: other.certFile, key: other.keyFile };
    await expect(
      database({ ...at("localhost"), user: "certified", ssl: wrong, connectTimeoutMs: 5_000 }).ping(),
    ).rejects.toMatchObject({ remedy: expect.stringContaining("sslcert") });
    await expect(db.query("SELECT pg_sleep(30)", [], { timeoutMs: 200 })).rejects.toMatchObject({
      code: "database.timeout",
    });
    await db.ping();
  });
});
