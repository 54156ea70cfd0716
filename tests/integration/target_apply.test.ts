import { afterAll, describe, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { chunk, Feed, MODES, openTarget, row, setUp, type Target } from "../support/target_fixture.ts";

const DDL = `
CREATE TABLE users (id int PRIMARY KEY, name text, email text UNIQUE);
${setUp("users")}`;

describeWith("postgres", "Target store, apply", () => {
  for (const mode of MODES) {
    describe(`in ${mode} mode`, () => {
      const opened: Target[] = [];
      const open = async (ddl = DDL) => {
        const target = await openTarget(ddl, mode);
        opened.push(target);
        return target;
      };
      afterAll(async () => {
        for (const target of opened) await target.close();
      });
      const names = (target: Target) =>
        target.column("SELECT id || ' ' || name || ' ' || version FROM users ORDER BY id");
      const user = (version: number, id: number, name: string) => row(version, { id, name, email: `${name}${id}@x` });

      test("an INSERT, an UPDATE and a DELETE arrive, each with the source's stamp", async () => {
        const target = await open();
        await target.feed.apply(chunk("users", "INSERT", [user(1, 1, "a"), user(1, 2, "b")]));
        expect(await names(target)).toEqual(["1 a 1", "2 b 1"]);
        const outcome = await target.feed.apply(
          chunk("users", "UPDATE", [user(2, 1, "A")]),
          chunk("users", "DELETE", [row(2, { id: 2 })]),
        );
        expect(outcome).toEqual({ changes: 2, applied: 2, beaten: 0, overridden: 0, parked: 0 });
        expect(await target.rows("users")).toEqual(['(1,A,A1@x,2,"2026-11-21 10:00:00+00",active)']);
        expect(await target.rows("replicator.tombstone_1")).toEqual(['(2,2,"2026-11-21 10:00:00+00",active)']);
        expect(await target.store.position(target.feed.key)).toEqual(target.feed.position);
      });

      test("I6: duplicates and every order of the same changes give the same rows", async () => {
        const target = await open();
        const changes = [
          chunk("users", "INSERT", [user(1, 1, "a")]),
          chunk("users", "UPDATE", [user(2, 1, "b")]),
          chunk("users", "DELETE", [row(3, { id: 1 })]),
          chunk("users", "INSERT", [user(4, 1, "c")]),
          chunk("users", "UPDATE", [user(5, 1, "d")]),
        ];
        for (const order of permutations(changes).filter((_, n) => n % 7 === 0)) {
          await target.db.execute("SELECT 1");
          for (const one of order) await target.feed.apply(one);
          for (const one of order) await target.feed.apply(one);
          expect(await names(target)).toEqual(["1 d 5"]);
          await target.feed.apply(...order);
          expect(await names(target)).toEqual(["1 d 5"]);
          await reset(target);
        }
      });

      test("I6: a tombstone beats a late update, and a later insert beats the tombstone", async () => {
        const target = await open();
        await target.feed.apply(chunk("users", "DELETE", [row(5, { id: 1 })]));
        expect(await target.feed.apply(chunk("users", "UPDATE", [user(4, 1, "late")]))).toMatchObject({ beaten: 1 });
        expect(await names(target)).toEqual([]);
        expect(await target.feed.apply(chunk("users", "DELETE", [row(3, { id: 1 })]))).toMatchObject({ beaten: 1 });
        await target.feed.apply(chunk("users", "INSERT", [user(6, 1, "new")]));
        expect(await names(target)).toEqual(["1 new 6"]);
        expect(await target.feed.apply(chunk("users", "DELETE", [row(5, { id: 1 })]))).toMatchObject({ beaten: 1 });
        expect(await names(target)).toEqual(["1 new 6"]);
      });

      test("I6: TRUNCATE is a floor: rows below it go, whatever comes later below it loses", async () => {
        const target = await open();
        await target.feed.apply(chunk("users", "INSERT", [user(3, 1, "a"), user(9, 2, "b")]));
        await target.feed.apply(chunk("users", "TRUNCATE", [row(5, {})], { key: [] }));
        expect(await names(target)).toEqual(["2 b 9"]);
        expect(await target.feed.apply(chunk("users", "UPDATE", [user(4, 1, "late")]))).toMatchObject({ beaten: 1 });
        await target.feed.apply(chunk("users", "INSERT", [user(6, 1, "new")]));
        expect(await names(target)).toEqual(["1 new 6", "2 b 9"]);
      });

      test("I6: equal stamps are decided by the row's text, in both orders of arrival", async () => {
        const stamp = { at: "1970-01-01T00:00:00+00:00", by: "" };
        const one = row(1, { id: 1, name: "alpha", email: "x" }, stamp);
        const two = row(1, { id: 1, name: "beta", email: "y" }, stamp);
        for (const order of [
          [one, two],
          [two, one],
        ]) {
          const target = await open();
          for (const line of order) await target.feed.apply(chunk("users", "SNAPSHOT", [line]));
          expect(await names(target)).toEqual(["1 beta 1"]);
          await reset(target);
          await target.feed.apply(chunk("users", "SNAPSHOT", order));
          expect(await names(target)).toEqual(["1 beta 1"]);
        }
      });

      test("a delete and a reinsert of one key in one group leave the new row and the tombstone", async () => {
        const target = await open();
        await target.feed.apply(chunk("users", "INSERT", [user(1, 1, "a")]));
        const outcome = await target.feed.apply(
          chunk("users", "DELETE", [row(2, { id: 1 })]),
          chunk("users", "INSERT", [user(3, 1, "b")]),
        );
        expect(outcome).toMatchObject({ changes: 2, parked: 0 });
        expect(await names(target)).toEqual(["1 b 3"]);
      });

      test("a user's AFTER trigger that updates its own row: captured UPDATE before INSERT, the greater stamp stays", async () => {
        const target = await open();
        await target.feed.apply(
          chunk("users", "UPDATE", [user(2, 1, "b")]),
          chunk("users", "INSERT", [user(1, 1, "a")]),
        );
        expect(await names(target)).toEqual(["1 b 2"]);
      });

      test("unique values that two rows swap in one transaction arrive", async () => {
        const target = await open();
        const mail = (version: number, id: number, email: string) => row(version, { id, name: "n", email });
        await target.feed.apply(chunk("users", "INSERT", [mail(1, 1, "a"), mail(1, 2, "b")]));
        const outcome = await target.feed.apply(
          chunk("users", "UPDATE", [mail(2, 1, "tmp"), mail(2, 2, "a"), mail(3, 1, "b")]),
        );
        expect(outcome).toMatchObject({ parked: 0 });
        expect(await target.column("SELECT id || email FROM users ORDER BY id")).toEqual(["1b", "2a"]);
      });

      test("a unique value moves from a deleted row to a new one in one group", async () => {
        const target = await open();
        await target.feed.apply(chunk("users", "INSERT", [row(1, { id: 1, name: "n", email: "a" })]));
        const outcome = await target.feed.apply(
          chunk("users", "DELETE", [row(2, { id: 1 })]),
          chunk("users", "INSERT", [row(1, { id: 2, name: "n", email: "a" })]),
        );
        expect(outcome).toMatchObject({ parked: 0 });
        expect(await target.column("SELECT id || email FROM users ORDER BY id")).toEqual(["2a"]);
      });

      test("I9: what is applied is not captured again", async () => {
        const target = await open();
        await target.feed.apply(chunk("users", "INSERT", [user(1, 1, "a"), user(1, 2, "b")]));
        await target.feed.apply(
          chunk("users", "UPDATE", [user(2, 1, "c")]),
          chunk("users", "DELETE", [row(2, { id: 2 })]),
        );
        await target.feed.apply(chunk("users", "TRUNCATE", [row(9, {})], { key: [] }));
        expect(await target.column("SELECT count(*) FROM replicator.queue")).toEqual(["0"]);
        expect(await target.column("SELECT count(*) FROM replicator.bypass_log")).toEqual(["0"]);
        await target.db.execute("INSERT INTO users (id, name) VALUES (7, 'local')");
        expect(await target.column("SELECT count(*) FROM replicator.queue")).toEqual(["1"]);
        // The floor of the TRUNCATE is below a local row that comes after it.
        expect(await target.column("SELECT version FROM users")).toEqual(["10"]);
      });

      test("processed_events lists each change once with its event id, version and outcome", async () => {
        const target = await open();
        await target.feed.apply(chunk("users", "INSERT", [user(3, 1, "a")]));
        await target.feed.apply(
          chunk("users", "DELETE", [row(2, { id: 9 })], { first_queue_id: "77" }),
          chunk("users", "UPDATE", [user(2, 1, "late"), user(5, 2, "b")], { first_queue_id: "88" }),
        );
        const lines = await target.column(
          "SELECT (event_id = md5('active:1:' || CASE WHEN operation = 'DELETE' THEN '77:0' WHEN version = 2 THEN '88:0' ELSE '88:1' END)::uuid) || ' ' || operation || ' ' || version || ' ' || outcome FROM processed_events WHERE operation <> 'INSERT' ORDER BY operation, version",
        );
        expect(lines).toEqual(["true DELETE 2 applied", "true UPDATE 2 beaten", "true UPDATE 5 applied"]);
      });

      test("events are applied as the frames are, key change, delete and truncate included", async () => {
        const target = await open();
        const feed = new Feed(target.store, "active", "users_changes");
        const event = (operation: string, version: number, id: number, data: string | null) => {
          const head = `{"event_id":"00000000-0000-0000-0000-000000000000","schema":"public","table":"users","operation":"${operation}","source":{"contour":"active","transaction":"7345","queue_id":"${version}","cut_no":"311","captured_at":"2026-11-21T10:00:00.123456Z"},`;
          const stamp = `"version":${version},"updated_at":"2026-11-21T10:00:00.123456+00:00","updated_by":"active"`;
          const key = operation === "TRUNCATE" ? "" : `"key":{"id":${id}},`;
          return {
            table: "users",
            operation,
            sequence: 1,
            body: `${head}${key}${stamp}${data === null ? "" : `,"data":${data}`}}`,
          };
        };
        const deliver = (...events: ReturnType<typeof event>[]) =>
          feed.groups([events.map((one) => feed.batch([], [one]))]);
        await deliver(event("INSERT", 1, 1, user(1, 1, 'q"}\\')), event("INSERT", 1, 2, user(1, 2, "b")));
        await deliver(event("UPDATE", 2, 1, user(2, 1, "c")), event("DELETE", 2, 2, null));
        expect(await names(target)).toEqual(["1 c 2"]);
        expect(await target.rows("replicator.tombstone_1")).toEqual(['(2,2,"2026-11-21 10:00:00.123456+00",active)']);
        await deliver(event("TRUNCATE", 8, 0, null));
        expect(await names(target)).toEqual([]);
      });

      test("a table, and its columns, with hostile names and a composite key", async () => {
        const target = await open(`
CREATE SCHEMA "My ""Schema";
CREATE TABLE "My ""Schema"."Заказы; t" ("t" int, "new" text, "data" text, "select" int, "c1" int, "r" text, "q""'; DROP" text, replicator_n int, PRIMARY KEY ("select", "t"));
${setUp('"My ""Schema"."Заказы; t"')}`);
        const values = { t: 1, new: "n", data: "d", select: 2, c1: 3, r: "$1 '", "q\"'; DROP": "x", replicator_n: 5 };
        const more = { schema: 'My "Schema', table: "Заказы; t", key: ["select", "t"] };
        await target.feed.apply(chunk("x", "INSERT", [row(1, values), row(1, { ...values, t: 2 })], more));
        await target.feed.apply(
          chunk("x", "UPDATE", [row(2, { ...values, data: "D" })], more),
          chunk("x", "DELETE", [row(2, { select: 2, t: 2 })], more),
        );
        expect(await target.rows('"My ""Schema"."Заказы; t"')).toEqual([
          '(1,n,D,2,3,"$1 \'",x,5,2,"2026-11-21 10:00:00+00",active)',
        ]);
      });

      test("a partitioned table is written through its root", async () => {
        const target = await open(`
CREATE TABLE parts (id int, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE parts_b PARTITION OF parts FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
${setUp("parts")}`);
        const key = { key: ["id", "day"] };
        const part = (version: number, id: number, day: string, note: string) => row(version, { id, day, note });
        await target.feed.apply(
          chunk("parts", "INSERT", [part(1, 1, "2026-02-01", "a"), part(1, 2, "2026-08-01", "b")], key),
        );
        await target.feed.apply(
          chunk("parts", "UPDATE", [part(2, 1, "2026-02-01", "c")], key),
          chunk("parts", "DELETE", [row(2, { id: 2, day: "2026-08-01" })], key),
        );
        expect(await target.column("SELECT id || note FROM parts")).toEqual(["1c"]);
      });

      async function reset(target: Target): Promise<void> {
        await target.db.execute("DELETE FROM users");
        await target.db.execute("DELETE FROM replicator.tombstone_1");
        await target.db.execute("DELETE FROM replicator.floor");
      }
    });
  }
});

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((item, n) => permutations(items.filter((_, m) => m !== n)).map((rest) => [item, ...rest]));
}
