/** The SourceStore port against real PostgreSQL: a cut read as chunks (architecture §4.2 §4.8). */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import type { Chunk } from "../../../src/core/chunk.ts";
import { freshDatabase, sharedPostgres } from "../../servers/postgres.ts";
import { describeWith } from "../../support/needs.ts";
import { chunksOf, cutter, idsOf, makeSource, mustCut, type Source, USERS } from "./source_fixture.ts";

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

async function readCut(): Promise<Chunk[]> {
  const store = await source.store();
  return chunksOf(store, await mustCut(store, await cutter(store)));
}

describeWith("postgres", "The chunks of a cut", () => {
  test("put row-form rows of one transaction, table and operation together, in the order of their ids", async () => {
    await source.write(source.app, 1, 200);
    const chunks = await readCut();
    expect(chunks.length).toBeLessThanOrEqual(5);
    expect(idsOf(chunks)).toEqual(Array.from({ length: 200 }, (_, n) => n + 1));
    expect(chunks.reduce((sum, chunk) => sum + chunk.rows, 0)).toBe(200);
    expect(chunks[0]).toMatchObject({
      schema: "public",
      table: "users",
      operation: "INSERT",
      first_queue_id: "1048576",
      key: ["id"],
      stamp: ["version", "updated_at", "updated_by"],
      old: null,
    });
    expect(chunks[0]?.captured_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    expect(chunks[0]?.data.split("\n")[1]).toBe('{"id":2},');
  });

  test("hand packed rows over as they are, each a chunk", async () => {
    const lines = (from: number) => Array.from({ length: 50 }, (_, n) => `{"id":${from + n}}`).join(",\n");
    await source.app.execute(`${INSERT} VALUES ($1, 'U', 50, $2, null), ($1, 'U', 50, $3, null)`, [
      USERS,
      lines(1),
      lines(51),
    ]);
    const chunks = await readCut();
    expect(chunks.map((chunk) => chunk.data)).toEqual([lines(1), lines(51)]);
    expect(chunks.map((chunk) => [chunk.rows, chunk.first_queue_id])).toEqual([
      [50, "1048576"],
      [50, "2097152"],
    ]);
  });

  test("carry old rows for deletes, line by line, and the floor of a TRUNCATE", async () => {
    await source.app.execute(
      `${INSERT} VALUES ($1, 'D', 1, '{"id":1}', '{"id":1,"x":1}'), ($1, 'D', 1, '{"id":2}', '{"id":2,"x":2}')`,
      [USERS],
    );
    await source.app.execute(`${INSERT} VALUES ($1, 'T', 1, '{"version":9}', null)`, [USERS]);
    const chunks = await readCut();
    expect(chunks.map(({ operation, rows, data, old }) => ({ operation, rows, data, old }))).toEqual([
      { operation: "DELETE", rows: 2, data: '{"id":1},\n{"id":2}', old: '{"id":1,"x":1},\n{"id":2,"x":2}' },
      { operation: "TRUNCATE", rows: 1, data: '{"version":9}', old: null },
    ]);
  });

  test("come transaction by transaction, in the order of each one's last queue id", async () => {
    const [a, b] = [await source.app.reserve(), await source.app.reserve()];
    await a.query("BEGIN");
    await b.query("BEGIN");
    await source.write(a, 1);
    await source.write(b, 2);
    await source.write(a, 3);
    await a.query("COMMIT");
    await b.query("COMMIT");
    a.release();
    b.release();
    expect(idsOf(await readCut())).toEqual([2, 1, 3]);
  });

  test("I13: are the same for a small cut read at once and inside a larger one read by its directory", async () => {
    for (let n = 0; n < 20; n++) await source.write(source.app, n * 10, n * 10 + 7);
    const store = await source.store();
    const lease = await cutter(store);
    const small = await mustCut(store, lease);
    const before = await chunksOf(store, small);
    await source.write(source.app, 10_000, 13_000);
    const large = await mustCut(store, lease);
    const whole = { ...large, snapFrom: small.snapFrom };
    expect((await chunksOf(store, whole)).slice(0, before.length)).toEqual(before);
  });

  test("hold more than 2,000 transactions, all of them, in order, and late ones among them", async () => {
    const late = await source.app.reserve();
    await late.query("BEGIN");
    await source.write(late, 0);
    const store = await source.store();
    const lease = await cutter(store);
    await source.write(source.app, 1);
    await mustCut(store, lease);
    const writer = await source.app.reserve();
    await writer.query("SET synchronous_commit = off");
    const writes: Promise<void>[] = [];
    for (let n = 2; n <= 4_501; n++) writes.push(source.write(writer, n));
    await Promise.all(writes);
    await late.query("COMMIT");
    for (const connection of [late, writer]) connection.release();
    const chunks = await chunksOf(store, await mustCut(store, lease));
    expect(idsOf(chunks)).toEqual([0, ...Array.from({ length: 4_500 }, (_, n) => n + 2)]);
    expect(new Set(chunks.map((chunk) => chunk.transaction)).size).toBe(4_501);
  });

  test("I11: stream 300,000 row-form rows of one transaction with bounded memory", async () => {
    const pad = "x".repeat(150);
    await source.app.execute(
      `${INSERT} SELECT ${USERS}, 'I', 1, '{"id":' || n || ',"pad":"${pad}"}', null FROM generate_series(1, 300000) AS n`,
    );
    const store = await source.store();
    const cut = await mustCut(store, await cutter(store));
    Bun.gc(true);
    const before = process.memoryUsage.rss();
    let [peak, next, largest] = [0, 1, 0];
    for await (const chunks of store.readChunks(cut, "changes", signal)) {
      largest = Math.max(
        largest,
        chunks.reduce((sum, chunk) => sum + chunk.data.length, 0),
      );
      for (const id of idsOf(chunks)) if (id === next) next++;
      peak = Math.max(peak, process.memoryUsage.rss() - before);
    }
    expect(next).toBe(300_001);
    expect(largest).toBeLessThan(5_000_000);
    // The rows are 54 MB of text; read whole they would be several times as much.
    expect(peak).toBeLessThan(100_000_000);
  });

  test("I13: of a large transaction are cut at the same places by every reader", async () => {
    await source.app.execute(
      `${INSERT} SELECT ${USERS}, CASE n % 3 WHEN 0 THEN 'I' ELSE 'U' END, 1, '{"id":' || n || ',"pad":"' || repeat('x', n % 3000) || '"}', null
       FROM generate_series(1, 12000) AS n`,
    );
    const [one, two] = [await source.store(), await source.store()];
    const cut = await mustCut(one, await cutter(one));
    const digest = async (store: typeof one) => {
      const hash = createHash("sha256");
      for (const chunk of await chunksOf(store, cut)) hash.update(JSON.stringify(chunk));
      return hash.digest("hex");
    };
    const first = await digest(one);
    await source.app.query(`ANALYZE "replicator".queue`);
    expect(await digest(two)).toBe(first);
  });

  test("hold a row of 40 MB as a chunk of its own, between its neighbours", async () => {
    await source.write(source.app, 1);
    await source.app.execute(
      `${INSERT} SELECT ${USERS}, 'U', 1, '{"id":2,"big":"' || repeat('ab', 20000000) || '"}', null`,
    );
    await source.write(source.app, 3);
    const chunks = await readCut();
    expect(chunks.map((chunk) => chunk.rows)).toEqual([1, 1, 1]);
    expect(chunks[1]?.data).toHaveLength(40_000_017);
    expect(idsOf(chunks)).toEqual([1, 2, 3]);
  });

  test("I5: of a table that is not registered stop the reader instead of being left out", async () => {
    await source.app.execute(`${INSERT} VALUES (99, 'I', 1, '{"id":1}', null)`);
    await expect(readCut()).rejects.toMatchObject({ code: "source.table_unknown", retry: "never" });
  });

  test("can be left early: the connection is free again for the next reader", async () => {
    await source.write(source.app, 1, 20_000);
    const store = await source.store();
    const cut = await mustCut(store, await cutter(store));
    for (let n = 0; n < 6; n++) {
      for await (const chunks of store.readChunks(cut, "changes", signal)) {
        expect(chunks.length).toBeGreaterThan(0);
        break;
      }
    }
    expect(idsOf(await chunksOf(store, cut))).toHaveLength(20_000);
  });

  test("end at the signal's abort", async () => {
    await source.write(source.app, 1, 20_000);
    const store = await source.store();
    const cut = await mustCut(store, await cutter(store));
    const stop = new AbortController();
    const reading = (async () => {
      for await (const _ of store.readChunks(cut, "changes", stop.signal)) stop.abort();
    })();
    await expect(reading).rejects.toMatchObject({ name: "AbortError" });
    expect(idsOf(await chunksOf(store, cut))).toHaveLength(20_000);
  });
});
