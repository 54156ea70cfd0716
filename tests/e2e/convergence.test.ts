/** Active/active: contours that write the same rows end equal, whatever is killed on the way (I6, law 3). */
import { afterEach, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type Contour, type Replicator, untilEqual } from "./harness.ts";
import { BROKERS, type OwnBroker, openMesh, ownBroker } from "./pair.ts";
import { untilSettled } from "./settled.ts";
import { random, SHOP, SHOP_TABLES, startWriter } from "./writers.ts";

/** Transactions of each contour. The full form: CONVERGENCE_WRITES=20000. */
const WRITES = Number(process.env.CONVERGENCE_WRITES ?? 600);
const SEED = Number(process.env.SEED ?? 7);

for (const kind of BROKERS) {
  describeWith([kind, "postgres"], `convergence over ${kind}`, () => {
    let mesh: Awaited<ReturnType<typeof openMesh>> | undefined;
    let broker: OwnBroker | undefined;
    afterEach(async () => {
      await mesh?.close();
      await broker?.close();
    });

    for (const count of [2, 3]) {
      test(`I6: ${count} contours write the same 200 keys with unique values, parents and children; processes are killed and the broker is away: equal, and quiet`, async () => {
        broker = await ownBroker(kind);
        mesh = await openMesh(count, {
          broker: broker.config,
          ddl: SHOP,
          tables: [{ name: "users" }, { name: "payments" }, { name: "items" }],
        });
        const { contours } = mesh;
        const processes: Replicator[] = [];
        for (const contour of contours) processes.push(await contour.start());
        const writers = contours.map(({ sql }, n) => startWriter(sql, SEED + n, n, count));
        const next = random(SEED);
        const progress = () => Math.min(...writers.map((writer) => writer.committed()));
        try {
          for (const part of [0.2, 0.4, 0.6, 0.8]) {
            await until("the writers go on", () => progress() > WRITES * part || progress(), 120_000);
            const victim = Math.floor(next() * count);
            await processes[victim]?.kill();
            if (part === 0.4) await broker.kill();
            processes[victim] = await (contours[victim] as Contour).start("all", false);
            if (part === 0.6) await broker.start();
          }
          await until("the writers are done", () => progress() >= WRITES || progress(), 120_000);
        } finally {
          await Promise.all(writers.map((writer) => writer.stop()));
        }
        await untilSettled(contours);
        await untilEqual(contours, SHOP_TABLES, 60_000);
        for (const { sql } of contours) {
          const [found] = await sql`SELECT
            (SELECT count(*) FROM replication_queue)::int AS captured, (SELECT count(*) FROM written)::int AS written,
            (SELECT count(*) FROM conflict_log WHERE override IS NOT NULL)::int AS overrides,
            (SELECT count(*) FROM inbox)::int AS parked`;
          expect(found).toMatchObject({ parked: 0 });
          expect(found?.captured).toBe(found?.written + found?.overrides);
        }
      });
    }
  });
}
