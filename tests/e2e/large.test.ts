/** Rows and transactions of any size, in bounded memory (I11 I12). */
import { afterEach, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { untilEqual } from "./harness.ts";
import { BROKERS, openPair, type Pair } from "./pair.ts";

const DDL = `
CREATE TABLE documents (id bigint PRIMARY KEY, body text);
CREATE TABLE letters (id bigint PRIMARY KEY, body text);
CREATE TABLE many (id bigint PRIMARY KEY, v text);
CREATE TABLE ticks (id bigint PRIMARY KEY, v text);
`;
/** Rows of one transaction. The full form: LARGE_ROWS=2000000. */
const ROWS = Number(process.env.LARGE_ROWS ?? 1_000_000);
/** Rows of the table that has a topic of its own; LARGE_EVENTS=1000000 takes some minutes. */
const EVENTS = Number(process.env.LARGE_EVENTS ?? 300_000);
/** It is size that is looked at here, not speed: a loaded machine may take its time. */
const PATIENCE_MS = 240_000;
const TEST_MS = 600_000;
/** Text that does not compress to nothing. */
const TEXT = (bytes: number) =>
  `(SELECT string_agg(md5(g::text), '') FROM generate_series(1, ${Math.ceil(bytes / 32)}) g)`;

for (const broker of BROKERS) {
  describeWith([broker, "postgres"], `large rows and transactions over ${broker}`, () => {
    let pair: Pair | undefined;
    afterEach(() => pair?.close());

    test(
      "rows of 1 MB, 8 MB and 40 MB arrive in both kinds of channel",
      async () => {
        pair = await openPair({
          broker,
          ddl: DDL,
          tables: [{ name: "documents" }, { name: "letters", topic: "letters_changes" }],
        });
        const { a, b } = pair;
        const [publisher, consumer] = [await a.start("publisher"), await b.start("consumer")];
        for (const table of ["documents", "letters"]) {
          for (const [id, megabytes] of [1, 8, 40].entries()) {
            await a.sql.unsafe(`INSERT INTO ${table} VALUES (${id}, ${TEXT(megabytes * 1_000_000)})`);
            await a.sql.unsafe(`INSERT INTO ${table} VALUES (${id + 100}, 'small')`);
          }
          await untilEqual([a, b], { [table]: "id" }, PATIENCE_MS);
          await a.sql.unsafe(`UPDATE ${table} SET body = body || 'x' WHERE id = 1`);
          await a.sql.unsafe(`DELETE FROM ${table} WHERE id = 2`);
          await untilEqual([a, b], { [table]: "id" }, PATIENCE_MS);
        }
        for (const process of [publisher, consumer]) expect(process.peakMegabytes()).toBeLessThan(200 + 3 * 40);
      },
      TEST_MS,
    );

    test(
      `I12: a transaction of ${ROWS} rows is atomic to a reader at the target, each process below 200 MB`,
      async () => {
        pair = await openPair({ broker, ddl: DDL, tables: [{ name: "many", capture: "statement" }] });
        const { a, b } = pair;
        const [publisher, consumer] = [await a.start("publisher"), await b.start("consumer")];
        await a.sql`INSERT INTO many SELECT g, 'row ' || g FROM generate_series(1, ${ROWS}::int) g`;
        const seen = new Set<number>();
        await until(
          "all rows are there",
          async () => {
            const n = Number((await b.sql`SELECT count(*)::int AS n FROM many`)[0]?.n);
            seen.add(n);
            return n === ROWS || n;
          },
          PATIENCE_MS,
        );
        expect([...seen].sort((x, y) => x - y)).toEqual(seen.has(0) ? [0, ROWS] : [ROWS]);
        await untilEqual([a, b], { many: "id" });
        for (const process of [publisher, consumer]) expect(process.peakMegabytes()).toBeLessThan(200);
      },
      TEST_MS,
    );

    test(
      `I11: ${EVENTS} rows through a channel of events, each process below 200 MB`,
      async () => {
        const tables = [{ name: "ticks", topic: "ticks_changes", capture: "statement" }];
        pair = await openPair({ broker, ddl: DDL, tables });
        const { a, b } = pair;
        const [publisher, consumer] = [await a.start("publisher"), await b.start("consumer")];
        await a.sql`INSERT INTO ticks SELECT g, 'row ' || g FROM generate_series(1, ${EVENTS}::int) g`;
        await untilEqual([a, b], { ticks: "id" }, Math.max(PATIENCE_MS, EVENTS));
        const peaks = [publisher, consumer].map((process) => Math.round(process.peakMegabytes()));
        console.info(`${broker}: publisher and consumer of ${EVENTS} events took ${peaks.join(" and ")} MB at most`);
        for (const peak of peaks) expect(peak).toBeLessThanOrEqual(200);
      },
      Math.max(TEST_MS, 2 * EVENTS),
    );
  });
}
