/** What may not be parked stops its channel before its transaction: on_error: stop, and the limits of parking. */
import { afterAll, describe, expect, test } from "bun:test";
import type { TargetStoreOptions } from "../../adapters/postgres/target/store.ts";
import type { Chunk } from "../../src/core/chunk.ts";
import { describeWith } from "../support/needs.ts";
import { chunk, MODES, openTarget, row, setUp, type Target } from "../support/target_fixture.ts";

const DDL = `
CREATE TABLE account (id int PRIMARY KEY, note text CONSTRAINT nice CHECK (note <> 'poison'));
CREATE TABLE entry (id int PRIMARY KEY, account_id int REFERENCES account, note text CONSTRAINT nice CHECK (note <> 'poison'));
${setUp("account", "entry")}`;

/** One transaction with a row of a table. */
const change = (transaction: number, table: string, id: number, note = "fine"): Chunk =>
  chunk(table, "INSERT", [row(1, table === "entry" ? { id, account_id: null, note } : { id, note })], {
    transaction: String(transaction),
  });

describeWith("postgres", "A change that may not be parked", () => {
  for (const mode of MODES) {
    describe(`in ${mode} mode`, () => {
      const opened: Target[] = [];
      const open = async (options: Partial<TargetStoreOptions>) => {
        const target = await openTarget(DDL, mode, options);
        opened.push(target);
        return target;
      };
      afterAll(async () => {
        for (const target of opened) await target.close();
      });
      const ids = (target: Target, table: string) => target.column(`SELECT id FROM ${table} ORDER BY id`);

      test("stops the channel before its transaction: what is before is applied, what is after is not, nothing is parked", async () => {
        const target = await open({ stopOnError: ["public.account"] });
        const { feed } = target;
        const batch = feed.batch([
          change(1, "account", 1),
          change(2, "entry", 1, "poison"),
          change(3, "account", 2),
          change(3, "account", 3, "poison"),
          change(4, "account", 4),
        ]);
        await expect(feed.groups([[batch]])).rejects.toMatchObject({
          code: "apply.stopped",
          retry: "backoff",
          remedy:
            "ALTER TABLE account DROP CONSTRAINT nice; -- CHECK ((note <> 'poison'::text)); the channel goes on by itself once the change can be applied",
          facts: {
            channel: "active/changes",
            table: "account",
            key: "3",
            reason: "23514",
            transaction: "3",
            sequence: 1,
          },
          message: expect.stringMatching(
            /^Channel active\/changes stops before transaction 3: INSERT of account \(3\) cannot/,
          ),
        });
        expect(await ids(target, "account")).toEqual(["1"]);
        // The other table parks, as ever.
        expect(await target.column("SELECT table_name || record_id FROM inbox")).toEqual(["entry1"]);
        expect(await target.store.position(feed.key)).toBeNull();
        // The same again changes nothing.
        await expect(feed.groups([[batch]])).rejects.toMatchObject({ code: "apply.stopped" });
        expect(await target.column("SELECT table_name || record_id FROM inbox")).toEqual(["entry1"]);
        await target.db.execute("ALTER TABLE account DROP CONSTRAINT nice");
        expect(await feed.groups([[batch]])).toMatchObject({ changes: 5, parked: 1 });
        expect(await ids(target, "account")).toEqual(["1", "2", "3", "4"]);
        expect(await target.store.position(feed.key)).toMatchObject({ sequence: 1 });
      });

      test("in a group of several messages names the message, and leaves the ledger and the tables alone", async () => {
        const target = await open({ stopOnError: ["account"] });
        const { feed } = target;
        const batches = [
          feed.batch([change(1, "account", 1)]),
          feed.batch([change(2, "account", 2, "poison")]),
          feed.batch([change(3, "account", 3)]),
        ];
        await expect(feed.groups([batches])).rejects.toMatchObject({ code: "apply.stopped", facts: { sequence: 2 } });
        expect(await ids(target, "account")).toEqual([]);
        expect(await feed.groups([batches.slice(0, 1)])).toMatchObject({ applied: 1 });
        await expect(feed.groups([batches.slice(1, 2)])).rejects.toMatchObject({ code: "apply.stopped" });
        expect(await target.store.position(feed.key)).toMatchObject({ sequence: 1 });
      });

      test("is not one that a later change of its transaction makes right", async () => {
        const target = await open({ stopOnError: ["account", "entry"] });
        const child = chunk("entry", "INSERT", [row(1, { id: 1, account_id: 5, note: "a" })], { transaction: "1" });
        expect(await target.feed.apply(child, change(1, "account", 5))).toMatchObject({ applied: 2 });
      });

      test("a table that is not there any more, and a column that is not, stop it as well", async () => {
        const target = await open({ stopOnError: ["account", "entry"] });
        await expect(
          target.feed.apply(chunk("account", "INSERT", [row(1, { id: 1, note: "a", nick: "x" })])),
        ).rejects.toMatchObject({ code: "apply.stopped", facts: { reason: "apply.unknown_column" } });
        await target.db.execute("DROP TABLE entry");
        await expect(target.feed.apply(change(2, "entry", 2))).rejects.toMatchObject({ code: "apply.stopped" });
        expect(await target.column("SELECT count(*) FROM inbox")).toEqual(["0"]);
      });

      test("above the limit of entries: as much as may be is parked, then the channel stops, and goes on when there is room", async () => {
        const target = await open({ parking: { entries: 2 } });
        const { feed, store } = target;
        expect(await feed.apply(change(1, "account", 1, "poison"))).toMatchObject({ parked: 1 });
        const batch = feed.batch([
          change(2, "account", 2, "poison"),
          change(3, "account", 3),
          change(4, "entry", 4, "poison"),
          change(5, "account", 5),
        ]);
        await expect(feed.groups([[batch]])).rejects.toMatchObject({
          code: "apply.parked_limit",
          facts: { table: "entry", key: "4", transaction: "4" },
          message: expect.stringContaining("as much is parked as may be: 2 changes or 256 MB"),
          remedy: expect.stringContaining("raise consumer.parked_limit"),
        });
        expect(await target.column("SELECT record_id FROM inbox ORDER BY id")).toEqual(["1", "2"]);
        expect(await ids(target, "account")).toEqual(["3"]);
        await target.db.execute("DELETE FROM replicator.inbox WHERE record_id = '1'");
        await store.retryParked(10);
        expect(await feed.groups([[batch]])).toMatchObject({ parked: 2 });
        expect(await ids(target, "account")).toEqual(["3", "5"]);
      });

      test("I11: a transaction that arrives in many groups stops at the limit, not at its end", async () => {
        const target = await open({ parking: { entries: 3 } });
        const transaction = await target.feed.begin();
        let groups = 0;
        const applying = async () => {
          for (; groups < 10; groups++) {
            const rows = [row(1, { id: groups * 2, nick: "x" }), row(1, { id: groups * 2 + 1, nick: "x" })];
            await transaction.apply([target.feed.batch([chunk("account", "INSERT", rows)])]);
          }
        };
        await expect(applying()).rejects.toMatchObject({ code: "apply.parked_limit" });
        await transaction.rollback();
        expect(groups).toBeLessThan(5);
        expect(await target.column("SELECT count(*) FROM inbox")).toEqual(["0"]);
      });

      test("above the limit of bytes it stops too, and what was parked by others counts", async () => {
        const target = await open({ parking: { bytes: 3_000 } });
        const long = "x".repeat(1_000);
        const poison = (transaction: number) =>
          chunk("account", "INSERT", [row(1, { id: transaction, note: "poison", long })], {
            transaction: String(transaction),
          });
        expect(await target.feed.apply(poison(1))).toMatchObject({ parked: 1 });
        const other = await target.another();
        await other.retryParked(10);
        await target.feed.apply(poison(2));
        await target.store.retryParked(10);
        await expect(target.feed.apply(poison(3))).rejects.toMatchObject({ code: "apply.parked_limit" });
        expect(await target.store.counts()).toMatchObject({ parked: 2 });
      });
    });
  }
});
