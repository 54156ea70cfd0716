import { afterAll, describe, expect, test } from "bun:test";
import type { ApplyEvent } from "../../src/core/target_store.ts";
import { describeWith } from "../support/needs.ts";
import { chunk, Feed, MODES, openTarget, row, setUp, type Target } from "../support/target_fixture.ts";
import { until } from "../support/until.ts";

const DDL = `CREATE TABLE docs (id int PRIMARY KEY, body text, j json);${setUp("docs")}`;
const MB = 1_048_576;

describeWith("postgres", "Target store, large", () => {
  for (const mode of MODES) {
    describe(`in ${mode} mode`, () => {
      const opened: Target[] = [];
      const open = async () => {
        const target = await openTarget(DDL, mode);
        opened.push(target);
        return target;
      };
      afterAll(async () => {
        for (const target of opened) await target.close();
      });
      /** 8 MB that do not compress to nothing, with quotes and raw braces in them. */
      const body = Array.from({ length: 260_000 }, (_, n) => `${(n * 2654435761) % 4294967296}"{\\} `)
        .join("")
        .padEnd(8 * MB, "x");

      test("a row of 8 MB arrives in fragments, one target transaction for all of them, and replaces the small one", async () => {
        const target = await open();
        const { feed } = target;
        await feed.apply(chunk("docs", "INSERT", [row(1, { id: 1, body: "small", j: "[]" })]));
        const whole = chunk("docs", "UPDATE", [row(2, { id: 1, body, j: '{"a":  1}' })]);
        const pieces = cut(whole.data, 900_000);
        const batches = pieces.map((data, index) =>
          feed.batch([{ ...whole, data, fragment: { index, count: pieces.length } }]),
        );
        const outcome = await feed.groups([
          ...batches.map((batch) => [batch]),
          [feed.batch([chunk("docs", "INSERT", [row(1, { id: 2, body: "b", j: "{}" })])])],
        ]);
        expect(outcome).toEqual({ changes: 2, applied: 2, beaten: 0, overridden: 0, parked: 0 });
        const [digest] = await target.column(`SELECT md5(body) || ' ' || j FROM docs WHERE id = 1`);
        expect(digest).toBe(`${new Bun.CryptoHasher("md5").update(body).digest("hex")} {"a":  1}`);
        expect(await target.column("SELECT count(*) FROM replicator.fragment")).toEqual(["0"]);
      });

      test("a fragmented row that is refused is parked whole, without it ever being joined in memory", async () => {
        const target = await open();
        const whole = chunk("docs", "INSERT", [row(1, { id: 1, body, j: "{" })]);
        const pieces = cut(whole.data, 900_000);
        const batches = pieces.map((data, index) =>
          target.feed.batch([{ ...whole, data, fragment: { index, count: pieces.length } }]),
        );
        expect(await target.feed.groups([batches])).toMatchObject({ changes: 1, parked: 1 });
        expect(await target.column("SELECT length(data) FROM replicator.inbox")).toEqual([String(whole.data.length)]);
        await target.db.execute("ALTER TABLE docs ALTER COLUMN j TYPE text");
        await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = now()");
        await until("the parked row is applied", async () => {
          await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = now()");
          return (await target.store.retryParked(10)).resolved === 1;
        });
        expect(await target.column("SELECT length(body) FROM docs")).toEqual([String(body.length)]);
      });

      test("a fragment out of turn is refused, and nothing is applied", async () => {
        const target = await open();
        const whole = chunk("docs", "INSERT", [row(1, { id: 1, body: "abc", j: "{}" })]);
        const [first = "", ...rest] = cut(whole.data, 20);
        const count = rest.length + 1;
        const piece = (index: number, data: string) =>
          target.feed.batch([{ ...whole, data, fragment: { index, count } }]);
        await expect(target.feed.groups([[piece(0, first), piece(2, rest[1] ?? "")]])).rejects.toMatchObject({
          code: "wire.fragment_missing",
        });
        expect(await target.column("SELECT count(*) FROM docs")).toEqual(["0"]);
      });

      test("events larger than a message are joined in the database: a row of 8 MB, and its DELETE with the old row", async () => {
        const target = await open();
        const feed = new Feed(target.store, "active", "docs_changes");
        const event = (operation: string, version: number, members: string) =>
          `{"event_id":"x","schema":"public","table":"docs","operation":"${operation}","source":{"contour":"active","transaction":"7","queue_id":"${version}","cut_no":"3","captured_at":"2026-11-21T10:00:00.123456Z"},"key":{"id":1},"version":${version},"updated_at":"2026-11-21T10:00:00+00:00","updated_by":"active",${members}}`;
        const line = row(1, { id: 1, body, j: "[ ]" });
        const deliver = (operation: string, text: string) => {
          const pieces = cut(text, 900_000);
          return feed.groups(
            pieces.map((part, index) => {
              const fragment = { id: `${operation}`, index, last: index === pieces.length - 1 };
              const one: ApplyEvent = { sequence: index, table: "docs", operation, body: part, fragment };
              return [feed.batch([], [one])];
            }),
          );
        };
        expect(await deliver("INSERT", event("INSERT", 1, `"data":${line}`))).toMatchObject({ applied: 1 });
        expect(await target.column("SELECT length(body) || ' ' || j FROM docs")).toEqual([`${body.length} [ ]`]);
        expect(await deliver("DELETE", event("DELETE", 2, `"data":null,"old":${line}`))).toMatchObject({ applied: 1 });
        expect(await target.column("SELECT count(*) FROM docs")).toEqual(["0"]);
        expect(await target.column("SELECT id || ' ' || version FROM replicator.tombstone_1")).toEqual(["1 2"]);
      });

      test("I11: 200,000 rows stream through one target transaction, unseen until it commits, in bounded memory", async () => {
        const target = await open();
        const { feed } = target;
        Bun.gc(true);
        const before = process.memoryUsage().rss;
        let highest = before;
        const transaction = await feed.begin();
        let last = feed.batch([]);
        for (let frame = 0; frame < 200; frame++) {
          const lines = Array.from({ length: 1_000 }, (_, n) =>
            row(1, { id: frame * 1_000 + n, body: `text of row ${n}`.repeat(8), j: "{}" }),
          );
          last = feed.batch([chunk("docs", "INSERT", lines)]);
          await transaction.apply([last]);
          highest = Math.max(highest, process.memoryUsage().rss);
          if (frame === 150) expect(await target.column("SELECT count(*) FROM docs")).toEqual(["0"]);
        }
        expect(await transaction.commit()).toMatchObject({ changes: 200_000, applied: 200_000 });
        expect(await target.column("SELECT count(*) FROM docs")).toEqual(["200000"]);
        expect((highest - before) / MB).toBeLessThan(120);
        expect(await target.store.position(feed.key)).toMatchObject({ sequence: last.sequence });
        expect(await target.column("SELECT count(*) FROM replicator.applied")).toEqual(["200"]);
      });
    });
  }
});

/** Cuts as the publisher does: anywhere, though not inside a character. */
function cut(text: string, size: number): string[] {
  const pieces: string[] = [];
  for (let at = 0; at < text.length; at += size) pieces.push(text.slice(at, at + size));
  return pieces;
}
