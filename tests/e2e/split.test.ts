/** Leases may end up spread over processes: the cutter in one, the senders in another (architecture §4.3). */
import { afterEach, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type Contour, type Replicator, untilEqual } from "./harness.ts";
import { startLoad } from "./load.ts";
import { openPair, ownBroker } from "./pair.ts";

const DDL = "CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);";

describeWith(["nats", "postgres"], "cutter and sender in two processes", () => {
  const closers: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });

  test("I11: while the broker is away cuts do not pile up, and the backlog is gone soon afterwards", async () => {
    const broker = await ownBroker("nats");
    closers.push(() => broker.close());
    const { a, b, close } = await openPair({ broker: broker.config, ddl: DDL, tables: [{ name: "users" }] });
    closers.push(close);
    const cutter = await a.start("publisher");
    await until("it is the cutter", async () => (await owner(a, "cutter", "")).includes(`:${cutter.pid}:`));
    const sender = await a.start("publisher");
    await untilOwner(a, sender);
    await b.start("consumer");
    const load = startLoad(a.sql, { firstId: 1, limit: 400_000, connections: 3 });
    closers.push(() => load.stop());
    await until("changes flow", async () => (await b.sql`SELECT count(*)::int AS n FROM users`)[0]?.n > 50);
    await broker.stop();
    const cuts = async () => Number((await a.sql`SELECT max(cut_no) AS n FROM replicator.cut`)[0]?.n);
    const [before, from] = [await cuts(), load.committed()];
    await until(
      "a load was committed meanwhile",
      () => load.committed() > from + 6_000 || load.committed() - from,
      60_000,
    );
    const taken = (await cuts()) - before;
    await broker.start();
    await until(
      "it has caught up under load",
      async () => {
        const [row] =
          await a.sql`SELECT (SELECT max(cut_no) FROM replicator.cut) - (SELECT max(cut_no) FROM replicator.confirmed) AS behind`;
        return Number(row?.behind) < 100 || row;
      },
      60_000,
    );
    await load.stop();
    await untilEqual([a, b], { users: "id" });
    expect(taken).toBeLessThan(300);
  });
});

async function owner(contour: Contour, kind: string, name: string): Promise<string> {
  const [row] = await contour.sql`SELECT owner FROM replicator.lease WHERE kind = ${kind} AND name = ${name}`;
  return String(row?.owner);
}

/** Takes the channel's lease away until this process has got it. */
async function untilOwner(contour: Contour, replicator: Replicator): Promise<void> {
  await until(
    "the other one is the sender",
    async () => {
      const now = await owner(contour, "channel", "changes");
      if (now.includes(`:${replicator.pid}:`)) return true;
      if (now !== "nobody" || Math.random() < 0.02) {
        await contour.sql`UPDATE replicator.lease SET owner = 'nobody', term = term + 1, expires_at = '-infinity'
        WHERE kind = 'channel' AND name = 'changes'`;
      }
      return now;
    },
    60_000,
  );
}
