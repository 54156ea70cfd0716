/** A source whose history is not what it was, and a crash right after a cut (architecture §4.4, review A2). */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Param, Queryable, QueryOptions, Row } from "../../adapters/postgres/connection.ts";
import { verifyHistory } from "../../adapters/postgres/source/identity.ts";
import { createSourceStore } from "../../adapters/postgres/source/store.ts";
import { silentLogger } from "../../src/core/logger.ts";
import type { SourceStore } from "../../src/core/source_store.ts";
import { chunksOf, cutIds, cutter, idsOf, makeSource, mustCut } from "../conformance/store/source_fixture.ts";
import { type PostgresServer, startPostgres } from "../servers/postgres.ts";
import { giveToServer } from "../servers/scratch.ts";
import { describeWith } from "../support/needs.ts";

setDefaultTimeout(120_000);
const signal = new AbortController().signal;
let server: PostgresServer;

function storeAt(url: string, contour = "active"): SourceStore {
  return createSourceStore({
    database: { url, applicationName: "replicator_publisher" },
    contour,
    logger: silentLogger,
  });
}

/** Opens and closes a store; the error it is refused with. */
async function refusal(url: string, contour = "active"): Promise<unknown> {
  const store = storeAt(url, contour);
  try {
    await store.open(signal);
    return null;
  } catch (error) {
    return error;
  } finally {
    await store.close();
  }
}

describeWith("postgres", "A source's history", () => {
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(async () => {
    await server.close();
  });

  test("a cut taken while a connection looks at its history does not make it look as if it had gone back", async () => {
    const source = await makeSource(await server.createDatabase());
    const store = await source.store();
    const lease = await cutter(store);
    await source.write(source.app, 1);
    await mustCut(store, lease);
    // The look at the cut waits until everything asked before it is answered and one more cut is taken.
    const early: Promise<unknown>[] = [];
    const slow: Queryable = {
      execute: (text, params, options) => source.app.execute(text, params, options),
      query: async <R extends Row>(text: string, params?: readonly Param[], options?: QueryOptions) => {
        if (text.includes("cut_xid")) {
          await Promise.all(early);
          await source.write(source.app, 2, 20);
          await mustCut(store, lease);
          return await source.app.query<R>(text, params, options);
        }
        const answer = source.app.query<R>(text, params, options);
        early.push(answer);
        return await answer;
      },
    };
    expect(await verifyHistory(slow, source.app)).toBe(1);
    await source.close();
  });

  test("I1: rows of a committed cut are still there after a crash, though their commits were asynchronous", async () => {
    const source = await makeSource(await server.createDatabase());
    const store = await source.store();
    const lease = await cutter(store);
    const writer = await source.app.reserve();
    await writer.query("SET synchronous_commit = off");
    for (let round = 0; round < 5; round++) {
      for (let n = 0; n < 20; n++) await source.write(writer, round * 100 + n);
    }
    const cut = await mustCut(store, lease);
    // What is written after the cut may be lost; what the cut saw may not.
    await source.write(writer, 9_999);
    await server.stop("immediate");
    await source.close();
    await server.start();
    const again = storeAt(source.url);
    await again.open(signal);
    const [found] = await again.cutsAfter(0, 10);
    expect(found).toEqual(cut);
    const ids = idsOf(await chunksOf(again, cut));
    expect(ids).toHaveLength(100);
    expect(ids).not.toContain(9_999);
    await again.close();
  });

  test("a standby is refused", async () => {
    const source = await makeSource(await server.createDatabase());
    await source.store();
    await source.close();
    await server.stop();
    const flag = join(server.dataDir, "standby.signal");
    writeFileSync(flag, "");
    giveToServer(flag);
    await server.start();
    expect(await refusal(source.url)).toMatchObject({ code: "source.standby", retry: "never", fault: "environment" });
    await server.stop();
    await rm(flag);
    await server.start();
    expect(await refusal(source.url)).toBeNull();
  });

  test("another timeline, another cluster and xids gone back are refused, each named", async () => {
    const source = await makeSource(await server.createDatabase());
    const store = await source.store();
    await source.write(source.app, 1);
    await mustCut(store, await cutter(store));
    const broken: [string, string, RegExp][] = [
      [
        `UPDATE "replicator".epoch SET timeline = timeline + 1`,
        `UPDATE "replicator".epoch SET timeline = timeline - 1`,
        /timeline expected "2", found "1"/,
      ],
      [
        `UPDATE "replicator".epoch SET system_identifier = '1' || system_identifier`,
        `UPDATE "replicator".epoch SET system_identifier = substr(system_identifier, 2)`,
        /system identifier/,
      ],
      [
        `UPDATE "replicator".cut SET snap_to = '900000000:900000000:'`,
        `UPDATE "replicator".cut SET snap_to = snap_from`,
        /next transaction id/,
      ],
    ];
    for (const [breaks, mends, says] of broken) {
      await source.app.execute(breaks);
      const error = await refusal(source.url);
      expect(error).toMatchObject({ code: "source.history_broke", retry: "never", fault: "environment" });
      expect(String(error)).toMatch(says);
      await source.app.execute(mends);
    }
    expect(await refusal(source.url)).toBeNull();
    await source.close();
  });

  test("is looked at again on every new connection: a running store stops after it broke", async () => {
    const source = await makeSource(await server.createDatabase());
    const store = await source.store();
    const lease = await cutter(store);
    await source.write(source.app, 1);
    expect(await cutIds(store, lease)).toEqual([1]);
    await source.app.execute(`UPDATE "replicator".epoch SET timeline = timeline + 1`);
    await source.app.query(
      `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'replicator_publisher'`,
    );
    await source.write(source.app, 2);
    await expect(store.takeCut(lease, 1_000)).rejects.toMatchObject({ code: "source.history_broke" });
    await source.close();
  });

  test("the configuration's contour must be the database's", async () => {
    const source = await makeSource(await server.createDatabase());
    expect(await refusal(source.url, "passive")).toMatchObject({ code: "source.wrong_contour", fault: "input" });
    await source.app.execute(`UPDATE "replicator".local SET contour = ''`);
    expect(await refusal(source.url)).toMatchObject({ code: "source.contour_unset", retry: "never" });
    await source.close();
  });

  test("a database without our objects is refused with the command that makes them", async () => {
    const url = await server.createDatabase();
    expect(await refusal(url)).toMatchObject({ code: "database.objects_missing", remedy: "Run: replicator setup" });
  });
});
