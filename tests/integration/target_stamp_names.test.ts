/** Two contours that call their stamp columns differently: what one captures the other applies, in every kind of channel. */
import { afterAll, describe, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { openTarget, type Target } from "../support/target_fixture.ts";
import { openSites, type Sites } from "../support/two_sites.ts";

const OURS = { version: "row_version", updated_at: "at", updated_by: 'the "hand"' };
const THEIRS = { version: "generation", updated_at: "stamped", updated_by: "site" };
const DDL = "CREATE TABLE users (id int PRIMARY KEY, name text UNIQUE, number int)";
const CHANGES = [
  "INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",
  "UPDATE users SET name = 'aa', number = 7 WHERE id = 1; DELETE FROM users WHERE id = 2",
  "UPDATE users SET id = 4 WHERE id = 3",
  "INSERT INTO users VALUES (2, 'b again', 20)",
];

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;
const rows = (
  { version, updated_at, updated_by } = { version: "version", updated_at: "updated_at", updated_by: "updated_by" },
) =>
  `SELECT id, name, number, ${quoted(version)} AS v, ${quoted(updated_at)} AS u, ${quoted(updated_by)} AS b FROM users ORDER BY id`;

describeWith("postgres", "Stamp columns of other names", () => {
  const open: (Sites | Target)[] = [];
  afterAll(async () => {
    for (const one of open) await one.close();
  });

  for (const kind of ["events", "frames"] as const) {
    describe(`in a channel of ${kind}`, () => {
      const cases = [
        { what: "named at the source only", source: OURS },
        { what: "named at the target only", target: THEIRS },
        { what: "named differently at both", source: OURS, target: THEIRS },
        { what: "named alike at both", source: OURS, target: OURS },
      ];
      for (const { what, ...stamps } of cases) {
        test(`I6: ${what}, the contours end equal: inserts, updates, deletions, key changes, a TRUNCATE`, async () => {
          const sites = await openSites({ ddl: DDL, tables: ["users"], kind, stamps });
          open.push(sites);
          for (const change of CHANGES) {
            await sites.source(change);
            expect(await sites.carry()).toMatchObject({ beaten: 0, parked: 0 });
          }
          const source = await sites.sourceRows(rows(stamps.source));
          expect(source.map(({ id }) => id)).toEqual(["1", "2", "4"]);
          expect(await sites.rows(rows(stamps.target))).toEqual(source);
          await sites.source("TRUNCATE users");
          await sites.carry();
          expect(await sites.rows("SELECT count(*) AS n FROM users")).toEqual([{ n: "0" }]);
        });
      }
    });
  }

  /** An event's body; `said` is its member "stamp". */
  const bodyOf = (operation: string, names: readonly string[], said: string) => {
    const stamp = `"${names[0]}":5,"${names[1]}":"2026-01-01T00:00:00+00:00","${names[2]}":"active"`;
    const row = operation === "DELETE" ? "" : `,"data":{"id":9,"name":"in pieces","number":1,${stamp}}`;
    return `{"event_id":"0","schema":"public","table":"users","operation":"${operation}","source":{"contour":"active","transaction":"7","queue_id":"${++ids}","cut_no":"1","captured_at":"2026-01-01T00:00:00.000000Z"},"key":{"id":9},"version":${operation === "DELETE" ? 6 : 5},"updated_at":"2026-01-01T00:00:00+00:00","updated_by":"active"${said}${row}}`;
  };
  let ids = 1_000_000;
  const event = (target: Target, body: string, pieces: number) => {
    const at = Math.ceil(body.length / pieces);
    const events = Array.from({ length: pieces }, (_, n) => ({
      sequence: n,
      table: "public.users",
      operation: "INSERT" as const,
      body: body.slice(n * at, (n + 1) * at),
      ...(pieces > 1 && { fragment: { id: String(ids), index: n, last: n === pieces - 1 } }),
    }));
    return target.feed.groups([events.map((one) => target.feed.batch([], [one]))]);
  };
  const setUpAs = (columns: typeof OURS) =>
    `${DDL}; SELECT public.setup_table_for_replication('users', '${JSON.stringify({ columns })}')`;

  for (const pieces of [1, 3]) {
    test(`an event in ${pieces} message(s) is read by the names it says, else by the default ones, else by ours`, async () => {
      const target = await openTarget(setUpAs(THEIRS));
      open.push(target);
      const ours = Object.values(THEIRS);
      const others = ["v", "u", "b"];
      for (const [names, said] of [
        [others, `,"stamp":${JSON.stringify(others)}`],
        [["version", "updated_at", "updated_by"], ""],
        [ours, ""],
      ] as const) {
        expect(await event(target, bodyOf("INSERT", names, said), pieces)).toMatchObject({ applied: 1, parked: 0 });
        expect(await target.column("SELECT generation || ' ' || site FROM users")).toEqual(["5 active"]);
        expect(await event(target, bodyOf("DELETE", names, said), pieces)).toMatchObject({ applied: 1, parked: 0 });
        expect(await target.column("SELECT count(*) FROM users")).toEqual(["0"]);
        await target.db.execute("DELETE FROM replicator.tombstone_1");
      }
    });
  }

  test('an event whose "stamp" is not three names is refused by name', async () => {
    const target = await openTarget(setUpAs(THEIRS));
    open.push(target);
    const body = bodyOf("INSERT", ["v", "u", "b"], ',"stamp":["v","u"]');
    await expect(event(target, body, 1)).rejects.toMatchObject({ code: "wire.bad_event" });
  });
});
