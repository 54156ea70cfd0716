/** What may not be parked stops its channel, says so, survives a kill, and goes on by itself; and a person's retry. */
import { afterEach, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type Contour, type Replicator, untilEqual } from "./harness.ts";
import { openPair, type Pair } from "./pair.ts";

const DDL = `
CREATE TABLE account (id int PRIMARY KEY, note text);
CREATE TABLE entry (id int PRIMARY KEY, parent int, note text);
`;
const TEST_MS = 240_000;

for (const broker of ["nats", "kafka"] as const) {
  describeWith([broker, "postgres"], `channels that stop, over ${broker}`, () => {
    let pair: Pair | undefined;
    afterEach(() => pair?.close());

    const ids = async (contour: Contour, table: string) =>
      (await contour.sql.unsafe(`SELECT id FROM ${table} ORDER BY id`)).map((row) => Number(row.id));
    const reasons = async (replicator: Replicator) => {
      const { status, body } = await replicator.get("/ready");
      return `${status} ${JSON.stringify(body.reasons)}`;
    };

    test(
      "on_error: stop: the channel stops before the transaction, over a kill -9, and goes on when it can",
      async () => {
        pair = await openPair({ broker, ddl: DDL, tables: [{ name: "account", on_error: "stop" }, { name: "entry" }] });
        const { a, b } = pair;
        await b.sql.unsafe("ALTER TABLE account ADD CONSTRAINT nice CHECK (note <> 'poison')");
        await a.start("publisher");
        const first = await b.start("consumer");
        await a.sql`INSERT INTO account VALUES (1, 'fine')`;
        await a.sql.unsafe("INSERT INTO account VALUES (2, 'fine')");
        await a.sql.unsafe("INSERT INTO entry VALUES (1); INSERT INTO account VALUES (3, 'poison')").simple();
        await a.sql.unsafe("INSERT INTO account VALUES (4, 'fine')");
        const stopped =
          /^503 .*apply\.stopped: Channel .* stops before transaction \d+: INSERT of account \(3\) .*DROP CONSTRAINT nice/;
        await until("the channel has stopped", async () => {
          const seen = await reasons(first);
          return stopped.test(seen) || seen;
        });
        await until("what comes before it has arrived", async () => String(await ids(b, "account")) === "1,2");
        await until("it was tried again", async () => Number((await first.get("/status")).body.error_count) >= 3);
        expect(
          first
            .log()
            .split("\n")
            .filter((line) => line.includes('"code":"apply.stopped"')),
        ).toHaveLength(1);
        expect(first.log()).not.toContain("reading the log again from its earliest message");
        await first.kill();
        const second = await b.start("consumer", false);
        await until("the next consumer stops there as well", async () => {
          const seen = await reasons(second).catch(() => "not up yet");
          return stopped.test(seen) || seen;
        });
        expect(await ids(b, "account")).toEqual([1, 2]);
        expect(await ids(b, "entry")).toEqual([]);
        expect(await b.sql`SELECT count(*)::int AS n FROM inbox`).toMatchObject([{ n: 0 }]);
        await b.sql.unsafe("ALTER TABLE account DROP CONSTRAINT nice");
        await untilEqual([a, b], { account: "id", entry: "id" });
        await until("it is ready again", async () => (await second.get("/ready")).status === 200);
      },
      TEST_MS,
    );
  });
}

describeWith(["nats", "postgres"], "parking, by a person's hand and at its limit", () => {
  let pair: Pair | undefined;
  afterEach(() => pair?.close());

  test(
    "consumer.parked_limit: as much is parked as may be, then the channel stops, and goes on when there is room",
    async () => {
      pair = await openPair({ broker: "nats", ddl: DDL, tables: [{ name: "account" }, { name: "entry" }] });
      const { a, b } = pair;
      b.reconfigure((config) => {
        config.consumer = { ...(config.consumer as object), parked_limit: 5 };
      });
      await b.sql.unsafe("ALTER TABLE entry ADD CONSTRAINT nice CHECK (note <> 'poison')");
      await a.start("publisher");
      const consumer = await b.start("consumer");
      for (let id = 1; id <= 20; id++) await a.sql`INSERT INTO entry VALUES (${id}, NULL, 'poison')`;
      await a.sql`INSERT INTO account VALUES (1, 'behind them')`;
      await until("the channel has stopped", async () => {
        const { status, body } = await consumer.get("/ready");
        return (status === 503 && String(body.reasons).includes("apply.parked_limit: ")) || body;
      });
      const parked = await b.sql`SELECT id FROM inbox ORDER BY id`;
      expect(parked).toHaveLength(5);
      // Room for one more is used for one more.
      const { code } = await b.command("parked", "discard", String(parked[0]?.id), "--yes");
      expect(code).toBe(0);
      await until("the next one is parked", async () => {
        const [found] = await b.sql`SELECT count(*)::int AS n, max(record_id::int) AS last FROM inbox`;
        return (found?.n === 5 && found.last === 6) || found;
      });
      await b.sql.unsafe("ALTER TABLE entry DROP CONSTRAINT nice");
      await a.sql`UPDATE entry SET note = 'once more' WHERE id = 1`;
      await untilEqual([a, b], { entry: "id", account: "id" });
      await until("it is ready again", async () => (await consumer.get("/ready")).status === 200);
    },
    TEST_MS,
  );

  test(
    "parked retry: a running consumer tries what was asked for, and the command says what became of it",
    async () => {
      pair = await openPair({ broker: "nats", ddl: DDL, tables: [{ name: "account" }, { name: "entry" }] });
      const { a, b } = pair;
      b.reconfigure((config) => {
        config.consumer = { ...(config.consumer as object), max_attempts: 2 };
      });
      await b.sql.unsafe("ALTER TABLE entry ADD FOREIGN KEY (parent) REFERENCES account");
      await a.start("publisher");
      const consumer = await b.start("consumer");
      await a.sql`INSERT INTO entry VALUES (1, 7, 'a'), (2, 8, 'b')`;
      await until(
        "both are dead letters",
        async () => {
          const { body } = await consumer.get("/status");
          return body.dead === 2 || body;
        },
        60000,
      );
      expect((await consumer.get("/ready")).body.suspended).toMatchObject([
        expect.stringContaining("2 parked changes (2 of them dead letters) in entry"),
      ]);
      expect((await b.command("parked", "list", "--dead")).stdout).toContain(
        "It waits for its parent: account (id) = (7)",
      );
      const retried = await b.command("parked", "retry", "--table", "entry", "--json");
      expect(retried.code).toBe(0);
      const outcomes = JSON.parse(retried.stdout) as readonly { readonly outcome: string }[];
      expect(outcomes.map(({ outcome }) => outcome)).toEqual(["parked", "parked"]);
      // Its parent's arrival brings a child back by itself, a dead letter too.
      await b.sql`INSERT INTO account VALUES (7, 'here')`;
      const children = async () => (await b.sql`SELECT id FROM entry`).map((row) => Number(row.id));
      await until("the child whose parent has come is there", async () => (await children()).length === 1, 30_000);
      expect(await children()).toEqual([1]);
      expect((await b.command("parked", "show", "999")).code).toBe(2);
      expect((await b.command("parked", "discard", "999", "--yes")).code).toBe(2);
    },
    TEST_MS,
  );
});
