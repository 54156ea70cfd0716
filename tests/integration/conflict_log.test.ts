import { afterAll, describe, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { chunk, MODES, openTarget, row, script, setUp, type Target } from "../support/target_fixture.ts";

/** Before and after what is written here while the test runs. */
const SOONER = { at: "2020-01-01T00:00:00+00:00" };
const LATER = { at: new Date(Date.now() + 1_800_000).toISOString() };

function ddl(policy: string): string {
  return `CREATE TABLE users (id int PRIMARY KEY, name text);
SELECT public.setup_table_for_replication('users', '{"conflict":"${policy}"}');`;
}

/** What a person reads first: which row, who won, why. */
function log(target: Target): Promise<readonly (string | null)[]> {
  return target.column(
    "SELECT table_name || ' ' || record_id || ': ' || winner || ', ' || reason FROM conflict_log ORDER BY id",
  );
}

const user = (version: number, name: string, stamp = {}, id = 1) => row(version, { id, name }, stamp);
const gone = (version: number, stamp = {}, id = 1) => row(version, { id }, stamp);

describeWith("postgres", "Conflict log", () => {
  const opened: Target[] = [];
  const open = async (text: string, mode: "replica" | "origin" = "replica", options = {}) => {
    const target = await openTarget(text, mode, options);
    opened.push(target);
    return target;
  };
  afterAll(async () => {
    for (const target of opened) await target.close();
  });

  for (const mode of MODES) {
    for (const policy of ["version", "latest"]) {
      describe(`in ${mode} mode, policy ${policy}`, () => {
        /** A row that both contours know (version 1, of the other one), with `here` done to it. */
        const shared = async (here: string) => {
          const target = await open(ddl(policy), mode);
          await target.feed.apply(chunk("users", "INSERT", [user(1, "both", SOONER)]));
          await script(target.db, here);
          return target;
        };

        test("update against update: both images, the winner and the reason, whoever wins", async () => {
          const target = await shared("UPDATE users SET name = 'here'");
          const outcome = await target.feed.apply(chunk("users", "UPDATE", [user(2, "there", SOONER)]));
          expect(outcome).toEqual({
            ...{ changes: 1, applied: 0, beaten: 1, overridden: 0, parked: 0 },
            conflicts: [{ table: "users", policy, winner: "local", lines: 1 }],
          });
          await target.feed.apply(chunk("users", "UPDATE", [user(2, "again", LATER)]));
          expect(await log(target)).toEqual([
            "users 1: local, later updated_at",
            "users 1: incoming, later updated_at",
          ]);
          const images = await target.column(
            "SELECT (local_row::json->>'name') || ' ' || (incoming_row::json->>'name') FROM conflict_log ORDER BY id",
          );
          expect(images).toEqual(["here there", "here again"]);
          expect(
            await target.column(
              `SELECT concat_ws(' ', source_contour, schema_name, policy, transaction_id, torn, override,
                 (SELECT outcome FROM processed_events p WHERE p.event_id = c.event_id)) FROM conflict_log c ORDER BY id`,
            ),
          ).toEqual([`active public ${policy} 700 f beaten`, `active public ${policy} 700 f applied`]);
          expect(await target.column("SELECT name FROM users")).toEqual(["again"]);
        });

        test("insert against insert", async () => {
          const target = await open(ddl(policy), mode);
          await script(target.db, "INSERT INTO users VALUES (1, 'here'), (2, 'here')");
          await target.feed.apply(
            chunk("users", "INSERT", [
              user(1, "there", SOONER, 1),
              user(1, "there", LATER, 2),
              user(1, "new", LATER, 3),
            ]),
          );
          expect(await log(target)).toEqual([
            "users 1: local, later updated_at",
            "users 2: incoming, later updated_at",
          ]);
        });

        test("update against a row deleted here: the tombstone is its image", async () => {
          const target = await shared("DELETE FROM users");
          await target.feed.apply(chunk("users", "UPDATE", [user(2, "there", SOONER)]));
          await target.feed.apply(chunk("users", "UPDATE", [user(2, "again", LATER)]));
          expect(await log(target)).toEqual([
            "users 1: local, deleted here, later updated_at",
            "users 1: incoming, deleted here, later updated_at",
          ]);
          const [image] = await target.column("SELECT local_row FROM conflict_log LIMIT 1");
          expect(Object.keys(JSON.parse(image ?? ""))).toEqual(["id", "version", "updated_at", "updated_by"]);
          expect(await target.column("SELECT name FROM users")).toEqual(["again"]);
        });

        test("delete against update; delete against delete is none", async () => {
          const target = await shared("UPDATE users SET name = 'here'; INSERT INTO users VALUES (5, 'x')");
          await script(target.db, "DELETE FROM users WHERE id = 5");
          await target.feed.apply(chunk("users", "DELETE", [gone(2, SOONER), gone(2, SOONER, 5), gone(2, LATER, 5)]));
          await target.feed.apply(chunk("users", "DELETE", [gone(2, LATER)]));
          expect(await log(target)).toEqual([
            "users 1: local, deleted there, later updated_at",
            "users 1: incoming, deleted there, later updated_at",
          ]);
          expect(await target.column("SELECT count(*) FROM users")).toEqual(["0"]);
        });

        test("what a TRUNCATE here has not seen, and what a TRUNCATE there has not seen", async () => {
          const target = await shared("UPDATE users SET name = 'here'; TRUNCATE users");
          await target.feed.apply(chunk("users", "UPDATE", [user(2, "there", SOONER), user(9, "above", LATER, 2)]));
          await script(target.db, "INSERT INTO users VALUES (3, 'here')");
          const floor = (version: number, at: string) =>
            `{"version":${version},"updated_at":"${at}","updated_by":"active"}`;
          await target.feed.apply(chunk("users", "TRUNCATE", [floor(2, SOONER.at)]));
          expect(await log(target)).toEqual([
            `users 1: local, truncated here, ${policy === "version" ? "greater version" : "later updated_at"}`,
            `users 3: local, truncated there, ${policy === "version" ? "greater version" : "later updated_at"}`,
          ]);
          expect(await target.column("SELECT id FROM users ORDER BY id")).toEqual(["2", "3"]);
        });

        test("a TRUNCATE there meets rows here that are not below it by version, and each of them is listed", async () => {
          const target = await shared(
            "INSERT INTO users SELECT n, 'here' FROM generate_series(2, 4) n; UPDATE users SET name = 'x' WHERE id = 4",
          );
          await target.feed.apply(
            chunk("users", "TRUNCATE", [`{"version":1,"updated_at":"${LATER.at}","updated_by":"active"}`]),
          );
          const row4 = `users 4: local, truncated there, greater version`;
          expect(await log(target)).toEqual([
            "users 2: incoming, truncated there, later updated_at",
            "users 3: incoming, truncated there, later updated_at",
            policy === "version" ? row4 : "users 4: incoming, truncated there, later updated_at",
          ]);
          expect(await target.column("SELECT id FROM users")).toEqual(policy === "version" ? ["4"] : []);
        });

        test("rows older than setup: equal stamps with different text are one, with equal text none", async () => {
          const target = await open(ddl(policy), mode);
          const old = { at: "1970-01-01T00:00:00+00:00", by: "" };
          await target.feed.apply(
            chunk("users", "SNAPSHOT", [user(1, "k", old, 1), user(1, "k", old, 2), user(1, "k", old, 3)]),
          );
          await target.feed.apply(
            chunk("users", "SNAPSHOT", [user(1, "a", old, 1), user(1, "k", old, 2), user(1, "z", old, 3)]),
          );
          expect(await log(target)).toEqual(["users 1: local, row text", "users 3: incoming, row text"]);
        });

        test("each version of a change that comes with others in one group, and the first of those that win", async () => {
          const target = await shared("UPDATE users SET name = 'a'; UPDATE users SET name = 'b'");
          const versions = [user(2, "v2", SOONER), user(3, "v3", LATER), user(4, "v4", LATER), user(5, "v5", LATER)];
          await target.feed.apply(chunk("users", "UPDATE", versions));
          expect(await log(target)).toEqual([
            `users 1: local, ${policy === "version" ? "greater version" : "later updated_at"}`,
            "users 1: incoming, later updated_at",
          ]);
          expect(await target.column("SELECT name FROM users")).toEqual(["v5"]);
        });

        test("of several that win over one row here the first is listed: the others met a change of their own contour", async () => {
          const target = await shared(
            "UPDATE users SET name = 'a'; UPDATE users SET name = 'b'; UPDATE users SET name = 'c'",
          );
          const versions = [user(2, "v2", SOONER), user(3, "v3", LATER), user(4, "v4", LATER)];
          await target.feed.apply(chunk("users", "UPDATE", versions));
          const lines = await target.column(
            "SELECT winner || ' ' || (incoming_row::json->>'version') FROM conflict_log ORDER BY id",
          );
          expect(lines).toEqual(policy === "latest" ? ["local 2", "incoming 3"] : ["local 2", "local 3", "incoming 4"]);
        });

        test("a key that is deleted twice in one group is met by the first deletion", async () => {
          const target = await shared("UPDATE users SET name = 'here'");
          await target.feed.apply(chunk("users", "DELETE", [gone(2, SOONER), gone(4, LATER)]));
          expect(await log(target)).toEqual(["users 1: local, deleted there, later updated_at"]);
          expect(await target.rows("users")).toEqual([]);
        });

        test("a key that is updated and deleted in one group meets the tombstone here", async () => {
          const target = await shared("DELETE FROM users");
          await target.feed.apply(
            chunk("users", "UPDATE", [user(2, "there", SOONER)]),
            chunk("users", "DELETE", [gone(3, LATER)]),
          );
          expect(await log(target)).toEqual(["users 1: local, deleted here, later updated_at"]);
        });

        test("a key that is updated, deleted and inserted anew in one group", async () => {
          const target = await shared("UPDATE users SET name = 'here'");
          await target.feed.apply(
            chunk("users", "UPDATE", [user(2, "there", SOONER)]),
            chunk("users", "DELETE", [gone(3, LATER)]),
            chunk("users", "INSERT", [user(4, "new", LATER)]),
          );
          expect(await log(target)).toEqual(["users 1: local, later updated_at"]);
          expect(await target.column("SELECT name FROM users")).toEqual(["new"]);
        });

        test("a deletion that follows an insertion in one group meets the row here", async () => {
          const target = await shared("UPDATE users SET name = 'a'; UPDATE users SET name = 'b'");
          await target.feed.apply(
            chunk("users", "UPDATE", [user(4, "later", LATER)]),
            chunk("users", "DELETE", [gone(2, SOONER)]),
          );
          expect((await log(target)).length).toBe(1);
          expect(await log(target)).toMatchObject([expect.stringContaining("users 1: local, deleted there")]);
        });

        test("ordinary work of two contours on the same rows is no conflict", async () => {
          const target = await shared("");
          const { feed, db } = target;
          const base = Date.now() + 60_000;
          // As the stamps of one that has seen what was written before: a greater version, a later time.
          const seen = (version: number) => ({ at: new Date(base + version * 1_000).toISOString() });
          const next = (version: number, name: string, id = 1) => user(version, name, seen(version), id);
          let version = 1;
          for (let round = 0; round < 6; round++) {
            await script(db, "UPDATE users SET name = 'here'");
            await feed.apply(chunk("users", "UPDATE", [next(version + 2, "x"), next(version + 3, "y")]));
            version += 3;
          }
          await feed.apply(chunk("users", "DELETE", [gone(version + 1, seen(version + 1))]));
          await script(db, "INSERT INTO users VALUES (1, 'back'); INSERT INTO users VALUES (2, 'mine')");
          // Deletions and insertions of several keys in one group: each looks at what the other contour wrote last.
          await feed.apply(
            chunk("users", "DELETE", [gone(version + 3, seen(version + 3))]),
            chunk("users", "INSERT", [next(version + 4, "again"), next(1, "third", 3)]),
            chunk("users", "UPDATE", [next(2, "yours", 2)]),
          );
          await script(db, "TRUNCATE users; INSERT INTO users VALUES (1, 'floor')");
          const [floor] = await target.column("SELECT max(version) FROM users");
          await feed.apply(chunk("users", "UPDATE", [next(Number(floor) + 1, "x")]));
          expect(await log(target)).toEqual([]);
          expect(await target.column("SELECT name FROM users")).toEqual(["x"]);
        });
      });
    }
  }

  test("an older snapshot of a row that was changed here since is no conflict", async () => {
    const target = await open(ddl("version"));
    await target.feed.apply(chunk("users", "INSERT", [user(1, "both", SOONER)]));
    await script(target.db, "UPDATE users SET name = 'here'");
    await target.feed.apply(chunk("users", "SNAPSHOT", [user(1, "both", SOONER)]));
    expect(await log(target)).toEqual([]);
    await target.feed.apply(chunk("users", "SNAPSHOT", [user(2, "there", SOONER)]));
    expect(await log(target)).toEqual(["users 1: local, later updated_at"]);
  });

  test("a change that comes again is logged once", async () => {
    const target = await open(ddl("version"));
    await script(target.db, "INSERT INTO users VALUES (1, 'here'), (2, 'here')");
    const inserts = chunk("users", "INSERT", [user(1, "there", SOONER, 1), user(1, "there", LATER, 2)]);
    await target.feed.apply(inserts);
    await target.feed.apply(inserts);
    expect((await log(target)).length).toBe(2);
  });

  test("a conflict with what a transaction under way commits meanwhile is logged, also where conflicts are frequent", async () => {
    const target = await open(ddl("version"));
    await script(target.db, "INSERT INTO users VALUES (9, 'here')");
    const connection = await target.db.reserve();
    for (const [id, before] of [
      [1, []],
      [2, [user(1, "there", SOONER, 9)]],
    ] as const) {
      // The second one is logged before it is applied: the table is contested by then.
      await connection.script(`BEGIN; INSERT INTO users VALUES (${id}, 'here')`);
      const applied = target.feed.apply(chunk("users", "INSERT", [...before, user(1, "there", SOONER, id)]));
      await waitsForLock(target);
      await connection.script("COMMIT");
      expect(await applied).toMatchObject({ applied: 0, beaten: 1 + before.length });
    }
    connection.release();
    expect([...(await log(target))].sort()).toEqual(
      [9, 1, 2].sort().map((id) => `users ${id}: local, later updated_at`),
    );
  });

  test("a deletion that a transaction under way commits meanwhile is met", async () => {
    const target = await open(ddl("version"));
    await target.feed.apply(chunk("users", "INSERT", [user(1, "both", SOONER)]));
    const connection = await target.db.reserve();
    await connection.script("BEGIN; DELETE FROM users");
    const applied = target.feed.apply(chunk("users", "UPDATE", [user(2, "there", SOONER)]));
    await waitsForLock(target);
    await connection.script("COMMIT");
    await applied;
    connection.release();
    expect(await log(target)).toEqual(["users 1: local, deleted here, later updated_at"]);
    expect(await target.rows("users")).toEqual([]);
  });

  test("groups of a contested table are not undone one after the other", async () => {
    const server = (await import("../servers/postgres.ts")).sharedPostgres();
    const target = await open(ddl("version"));
    const undone = async () => (await server).log().split("an incoming change meets a write of another contour").length;
    await script(target.db, "INSERT INTO users SELECT n, 'here' FROM generate_series(1, 100) n");
    const before = await undone();
    for (let group = 0; group < 10; group++)
      await target.feed.apply(chunk("users", "INSERT", [user(1, "there", SOONER, group + 1)]));
    expect((await log(target)).length).toBe(10);
    expect((await undone()) - before).toBe(1);
  });

  test("partitioned tables, composite keys, hostile names, renamed stamp columns", async () => {
    const target = await open(`
CREATE TABLE parted (id int, region text, name text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE parted_eu PARTITION OF parted FOR VALUES IN ('eu');
CREATE SCHEMA "od""d";
CREATE TABLE "od""d"."Ta'ble" ("r" int, "seen" text, "key ""k""" text PRIMARY KEY, "ord" json);
CREATE TABLE renamed (id int PRIMARY KEY, version text);
${setUp("parted", `"od""d"."Ta'ble"`)}
SELECT public.setup_table_for_replication('renamed', '{"columns":{"version":"rev","updated_at":"at","updated_by":"by"}}');
INSERT INTO parted VALUES (1, 'eu', 'here');
INSERT INTO "od""d"."Ta'ble" VALUES (1, 'here', 'it''s', '{"a":  1}');
INSERT INTO renamed VALUES (1, 'here');`);
    await target.feed.apply(
      chunk("parted", "INSERT", [row(1, { id: 1, region: "eu", name: "there" }, SOONER)], { key: ["region", "id"] }),
      chunk(`od"d.Ta'ble`, "INSERT", [row(1, { r: 2, seen: "there", 'key "k"': "it's", ord: null }, SOONER)], {
        key: ['key "k"'],
      }),
      chunk("renamed", "INSERT", [`{"id":1,"version":"there","rev":1,"at":"${LATER.at}","by":"active"}`], {
        stamp: ["rev", "at", "by"],
      }),
    );
    expect([...(await log(target))].sort()).toEqual([
      `Ta'ble it's: local, later updated_at`,
      `parted {"region" : "eu", "id" : "1"}: local, later updated_at`,
      "renamed 1: incoming, later updated_at",
    ]);
    expect(await target.column(`SELECT local_row::json->>'ord' FROM conflict_log WHERE schema_name = 'od"d'`)).toEqual([
      '{"a":  1}',
    ]);
    expect(await target.column("SELECT version || rev FROM renamed")).toEqual(["there1"]);
  });

  describe("Row by row", () => {
    const poisoned = `CREATE TABLE users (id int PRIMARY KEY, name text CHECK (name <> 'poison'));
CREATE TABLE notes (id int PRIMARY KEY, name text);${setUp("users", "notes")}`;

    test("conflicts are logged where another row of the group is refused; a refused row is logged when it is decided", async () => {
      const target = await open(poisoned);
      await script(target.db, "INSERT INTO users VALUES (1, 'here'), (2, 'here'), (3, 'here')");
      const inserts = [user(1, "there", SOONER, 1), user(1, "there", LATER, 2), user(1, "poison", LATER, 3)];
      const outcome = await target.feed.apply(
        chunk("users", "INSERT", inserts, { transaction: "900" }),
        chunk("users", "DELETE", [gone(1, SOONER, 2)], { transaction: "901" }),
      );
      expect(outcome).toMatchObject({ parked: 1, torn: 1 });
      expect(await log(target)).toEqual(["users 1: local, later updated_at", "users 2: incoming, later updated_at"]);
      expect(await target.column("SELECT DISTINCT torn || transaction_id FROM conflict_log")).toEqual(["true900"]);
      expect(
        await target.column("SELECT count(*) FROM conflict_log c JOIN processed_events p USING (event_id)"),
      ).toEqual(["2"]);
      await script(target.db, "ALTER TABLE users DROP CONSTRAINT users_name_check");
      await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = now()");
      expect(await target.store.retryParked(10)).toMatchObject({ tried: 1, resolved: 1 });
      expect((await log(target)).slice(2)).toEqual(["users 3: incoming, later updated_at"]);
      expect(
        await target.column("SELECT source_contour || ' ' || transaction_id FROM conflict_log WHERE record_id = '3'"),
      ).toEqual(["active 900"]);
    });
  });
});

async function waitsForLock(target: Target): Promise<void> {
  const { until } = await import("../support/until.ts");
  await until("apply waits for a lock", async () => {
    const [waiting] = await target.column(
      "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    );
    return waiting !== "0";
  });
}
