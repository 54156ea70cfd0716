import { expect, test } from "bun:test";
import { installObjects } from "../../adapters/postgres/admin/setup.ts";
import { openDatabase } from "../../adapters/postgres/connection.ts";
import { createTargetStore } from "../../adapters/postgres/target/store.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { chunk, Feed, openTarget, row, script, setUp } from "../support/target_fixture.ts";
import { until } from "../support/until.ts";

describeWith("postgres", "Target store, surroundings", () => {
  test("our schema under another name: changes are applied, parked and retried there", async () => {
    const url = await freshDatabase(await sharedPostgres());
    const schema = 'Our "schema';
    const sessionSettings = { search_path: "public" };
    const db = openDatabase({ url, applicationName: "application", logger: silentLogger, schema, sessionSettings });
    const columns = { version: "ver", updated_at: "changed", updated_by: "by" };
    await installObjects(db, { contour: "passive", compatSchema: null, columns }, AbortSignal.timeout(60_000));
    const setup = db.ours(`SELECT "replicator".setup_table_for_replication('users')`);
    await script(db, `CREATE TABLE users (id int PRIMARY KEY, name text CHECK (name <> 'poison')); ${setup}`);
    const store = createTargetStore({
      database: { url, applicationName: "test", schema },
      tables: null,
      session: "auto",
      maxSkewMs: 3_600_000,
      logger: silentLogger,
    });
    await store.open(AbortSignal.timeout(30_000));
    // The source calls its stamp columns version, updated_at, updated_by; here they have other names.
    const outcome = await new Feed(store).apply(
      chunk("users", "INSERT", [row(1, { id: 1, name: "a" }), row(1, { id: 2, name: "poison" })]),
      chunk("users", "DELETE", [row(7, { id: 3 })]),
    );
    expect(outcome).toEqual({ changes: 3, applied: 2, beaten: 0, overridden: 0, parked: 1 });
    const lines = await db.query("SELECT id, ver, by FROM users");
    expect(lines.map((line) => ({ ...line }))).toEqual([{ id: "1", ver: "1", by: "active" }]);
    expect(await store.counts()).toMatchObject({ parked: 1, parkedTables: ["users"] });
    await db.execute(db.ours(`UPDATE "replicator".inbox SET next_attempt_at = now()`));
    expect(await store.retryParked(10)).toEqual({ tried: 1, resolved: 0 });
    await db.execute("ALTER TABLE users DROP CONSTRAINT users_name_check");
    await until("the parked change is applied", async () => (await store.retryParked(10)).resolved === 1);
    await store.close();
    await db.close();
  });

  test("a deadlock with a local transaction is retry now, and the same batch then applies", async () => {
    const target = await openTarget(`CREATE TABLE users (id int PRIMARY KEY, name text); ${setUp("users")}`);
    const { db, feed } = target;
    await db.execute("INSERT INTO users (id) VALUES (1), (2)");
    // The applying session looks for a deadlock first, so it is the one that is given up.
    await db.execute(
      `ALTER ROLE postgres IN DATABASE ${new URL(db.url).pathname.slice(1)} SET deadlock_timeout = '2s'`,
    );
    const store = await target.another();
    const late = new Feed(store);
    const local = await db.reserve();
    await local.script("SET deadlock_timeout = '1min'; BEGIN; UPDATE users SET name = 'local' WHERE id = 2");
    const batch = feed.batch([chunk("users", "UPDATE", [row(5, { id: 1, name: "x" }), row(5, { id: 2, name: "x" })])]);
    const applying = late.groups([[batch]]).then(
      () => "applied",
      (error: unknown) => error,
    );
    await until("the upsert waits", async () => {
      const sql =
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
      return (await target.column(sql))[0] === "t";
    });
    const blocked = local.script("UPDATE users SET name = 'local' WHERE id = 1; COMMIT");
    const result = await applying;
    expect(result).toMatchObject({ code: "apply.serialization", retry: "now" });
    await blocked;
    local.release();
    await late.groups([[batch]]);
    expect(await target.column("SELECT version FROM users ORDER BY id")).toEqual(["5", "5"]);
    expect(await target.column("SELECT count(*) FROM inbox")).toEqual(["0"]);
    await target.close();
  });

  test("user triggers stay silent while a change is applied in replica mode, and what they are is left as it was", async () => {
    const target = await openTarget(
      `CREATE TABLE users (id int PRIMARY KEY, name text); CREATE TABLE log (line text);
       CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES (NEW.name); NEW.name := 'rewritten'; RETURN NEW; END $$;
       CREATE TRIGGER note BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION note(); ${setUp("users")}`,
      "replica",
    );
    await target.feed.apply(chunk("users", "INSERT", [row(1, { id: 1, name: "a" })]));
    expect(await target.column("SELECT name FROM users")).toEqual(["a"]);
    expect(await target.column("SELECT count(*) FROM log")).toEqual(["0"]);
    await target.db.execute("UPDATE users SET name = 'b'");
    expect(await target.column("SELECT name FROM users")).toEqual(["rewritten"]);
    await target.close();
  });
});
