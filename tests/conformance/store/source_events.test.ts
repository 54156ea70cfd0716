/** The SourceStore port against real PostgreSQL: a cut read as events (architecture §5, interface §4). */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { freshDatabase, sharedPostgres } from "../../servers/postgres.ts";
import { describeWith } from "../../support/needs.ts";
import {
  CONTOUR,
  chunksOf,
  cutter,
  eventsOf,
  makeSource,
  mustCut,
  PAYMENTS,
  type Source,
  USERS,
} from "./source_fixture.ts";

setDefaultTimeout(120_000);
const signal = new AbortController().signal;
const INSERT = `INSERT INTO "replicator".queue (table_id, operation, rows, data, old)`;
let source: Source;

beforeEach(async () => {
  source = await makeSource(await freshDatabase(await sharedPostgres()));
});
afterEach(async () => {
  await source.close();
});

describeWith("postgres", "The events of a cut", () => {
  const LAYOUT = [
    { name: "changes", partitions: 1, tables: [] },
    { name: "payments_changes", partitions: 3, tables: ['public."Pay ""ments"'] },
  ];
  const row = (a: number | string, rest: string) =>
    `{"a":${a},"b":"k","version":7,"changed":"2026-01-01T00:00:00.123456+00:00","by":"active"${rest}}`;

  test("I7: keep digits, spacing and escapes of every value, and composite keys", async () => {
    const store = await source.store();
    await store.setLayout(LAYOUT);
    const data = row(
      "9007199254740993",
      ',"n":12345678901234567890.1234567890,"z":-0.0,"t":"\\u00e9 \\" \\\\ \\n","e": 1e400 ',
    );
    await source.app.execute(`${INSERT} VALUES ($1, 'I', 1, $2, null)`, [PAYMENTS, data]);
    const cut = await mustCut(store, await cutter(store));
    const [event] = await eventsOf(store, cut, "payments_changes");
    expect(event?.key).toBe('{"a":9007199254740993,"b":"k"}');
    expect(event?.table).toBe('public."Pay ""ments"');
    expect(
      event?.body.endsWith(
        `,"key":${event.key},"version":7,"updated_at":"2026-01-01T00:00:00.123456+00:00","updated_by":"active","stamp":["version","changed","by"],"data":${data}}`,
      ),
    ).toBe(true);
    const id = createHash("md5").update(`${CONTOUR}:1:${event?.queue_id}:0`).digest("hex");
    expect(JSON.parse(event?.body ?? "")).toMatchObject({
      event_id: id.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"),
      schema: "public",
      table: 'Pay "ments',
      operation: "INSERT",
      source: { contour: CONTOUR, queue_id: event?.queue_id, cut_no: "1" },
    });
  });

  test("I13: name the stamp's columns only where they are not the usual ones: the bytes of all others stay as they were", async () => {
    const store = await source.store();
    await store.setLayout([
      { name: "changes", partitions: 1, tables: [] },
      { name: "users_changes", partitions: 1, tables: ["users"] },
    ]);
    const stamp = '"version":7,"updated_at":"2026-01-01T00:00:00+00:00","updated_by":"active"';
    await source.app.execute(`${INSERT} VALUES ($1, 'I', 1, $2, null)`, [USERS, `{"id":1,${stamp}}`]);
    const [event] = await eventsOf(store, await mustCut(store, await cutter(store)), "users_changes");
    expect(event?.body.endsWith(`,"key":{"id":1},${stamp},"data":{"id":1,${stamp}}}`)).toBe(true);
  });

  test("are one a row of packed chunks, with queue ids and old rows in step", async () => {
    const store = await source.store();
    await store.setLayout(LAYOUT);
    const many = (count: number, rest: (n: number) => string) =>
      Array.from({ length: count }, (_, n) => row(n, rest(n))).join(",\n");
    await source.app.execute(`${INSERT} VALUES ($1, 'D', 300, $2, $3), ($1, 'T', 1, $4, null)`, [
      PAYMENTS,
      many(300, () => ""),
      many(300, (n) => `,"o":${n}`),
      '{"version":8,"changed":"x","by":"active"}',
    ]);
    const cut = await mustCut(store, await cutter(store));
    const events = await eventsOf(store, cut, "payments_changes");
    expect(events).toHaveLength(301);
    events.slice(0, 300).forEach((event, n) => {
      expect(event.queue_id).toBe(String(1_048_576 + n));
      const body = JSON.parse(event.body);
      expect([body.key.a, body.old.o, "data" in body]).toEqual([n, n, false]);
    });
    expect(events[300]).toMatchObject({ operation: "TRUNCATE", key: "{}" });
    expect(JSON.parse(events[300]?.body ?? "")).toMatchObject({ version: 8, key: {} });
  });

  test("and the default channel's chunks share no row, and a cut keeps the layout it was taken under", async () => {
    const store = await source.store();
    const lease = await cutter(store);
    const pay = (n: number) => source.app.execute(`${INSERT} VALUES ($1, 'I', 1, $2, null)`, [PAYMENTS, row(n, "")]);
    await source.write(source.app, 1);
    await pay(1);
    const old = await mustCut(store, lease);
    await store.setLayout(LAYOUT);
    await store.setLayout(LAYOUT);
    await source.write(source.app, 2);
    await pay(2);
    const cut = await mustCut(store, lease);
    expect([old.layoutVersion, cut.layoutVersion]).toEqual([1, 2]);
    expect((await chunksOf(store, old)).map((chunk) => chunk.table)).toEqual(["users", 'Pay "ments']);
    expect(await eventsOf(store, old, "payments_changes")).toEqual([]);
    expect((await chunksOf(store, cut)).map((chunk) => chunk.table)).toEqual(["users"]);
    expect(await eventsOf(store, cut, "payments_changes")).toHaveLength(1);
    expect(await store.channelState("payments_changes", 3)).toEqual({
      confirmedCut: 1,
      sequences: [0, 0, 0],
      epoch: 1,
    });
  });

  test("come page by page for a large transaction, all of them, in order", async () => {
    const store = await source.store();
    await store.setLayout(LAYOUT);
    await source.app.execute(
      `${INSERT} SELECT ${PAYMENTS}, 'I', 1, '{"a":' || n || ',"b":"k","version":1,"changed":"x","by":"active"}', null FROM generate_series(0, 19999) AS n`,
    );
    const cut = await mustCut(store, await cutter(store));
    const keys: number[] = [];
    let largest = 0;
    for await (const events of store.readEvents(cut, "payments_changes", signal)) {
      keys.push(...events.map((event) => JSON.parse(event.key).a));
      largest = Math.max(
        largest,
        events.reduce((sum, event) => sum + event.body.length, 0),
      );
    }
    expect(keys).toEqual(Array.from({ length: 20_000 }, (_, n) => n));
    expect(largest).toBeLessThan(4_500_000);
  });

  test("a channel of a table that is not under replication is refused with the command that adds it", async () => {
    const store = await source.store();
    await expect(store.setLayout([{ name: "x", partitions: 1, tables: ["sales.orders"] }])).rejects.toMatchObject({
      code: "source.table_unknown",
      remedy: expect.stringContaining("replicator tables add sales.orders"),
    });
  });
});
