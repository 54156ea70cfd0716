/** I12: every read of the target shows whole transactions of the source: sums are kept, no child is without its parent. */
import { afterEach, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { untilEqual } from "./harness.ts";
import { BROKERS, openPair, type Pair } from "./pair.ts";
import { random } from "./writers.ts";

const ACCOUNTS = 50;
const BALANCE = 1_000;
const TRANSFERS = 2_000;

const DDL = `
CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0));
CREATE TABLE orders (id int PRIMARY KEY, total int NOT NULL);
CREATE TABLE lines (id int PRIMARY KEY, order_id int NOT NULL REFERENCES orders, amount int NOT NULL);
`;

for (const broker of BROKERS) {
  describeWith([broker, "postgres"], `whole transactions over ${broker}`, () => {
    let pair: Pair | undefined;
    afterEach(() => pair?.close());

    test("I12: while one contour writes and its consumer is killed, no read of the other shows part of a transaction", async () => {
      pair = await openPair({
        broker,
        ddl: DDL,
        tables: [{ name: "accounts" }, { name: "orders" }, { name: "lines" }],
      });
      const { a, b } = pair;
      await a.start("publisher");
      let consumer = await b.start("consumer");
      await a.sql`INSERT INTO accounts SELECT g, ${BALANCE}::int FROM generate_series(1, ${ACCOUNTS}::int) g`;
      await untilEqual([a, b], { accounts: "id" });
      const next = random(11);
      let written = 0;
      const writing = (async () => {
        for (; written < TRANSFERS; written++) {
          const [from, to] = [1 + Math.floor(next() * ACCOUNTS), 1 + Math.floor(next() * ACCOUNTS)];
          const amount = 1 + Math.floor(next() * 5);
          const [order, gone] = [written + 1, Math.floor(next() * written)];
          await a.sql
            .unsafe(
              // Several statements in one text are one transaction.
              `UPDATE accounts SET balance = balance - ${amount} WHERE id = ${from};
               UPDATE accounts SET balance = balance + ${amount} WHERE id = ${to};
               INSERT INTO orders VALUES (${order}, 3);
               INSERT INTO lines VALUES (${order * 3}, ${order}, 1), (${order * 3 + 1}, ${order}, 1), (${order * 3 + 2}, ${order}, 1);
               DELETE FROM lines WHERE order_id = ${gone}; DELETE FROM orders WHERE id = ${gone}`,
            )
            .simple();
        }
      })();
      let reads = 0;
      const seen = new Set<string>();
      const reading = (async () => {
        let settled = false;
        while (!settled) {
          settled = written >= TRANSFERS;
          const [row] = await b.sql`SELECT (SELECT sum(balance) FROM accounts)::int AS sum,
            (SELECT count(*) FROM lines l WHERE NOT EXISTS (SELECT FROM orders o WHERE o.id = l.order_id))::int AS orphans,
            (SELECT count(*) FROM orders o WHERE total <> (SELECT coalesce(sum(amount), 0) FROM lines l WHERE l.order_id = o.id))::int AS torn`;
          reads++;
          seen.add(JSON.stringify(row));
        }
      })();
      await until("half is written", () => written > TRANSFERS / 2 || written, 60_000);
      await consumer.kill();
      consumer = await b.start("consumer", false);
      await writing;
      await reading;
      expect([...seen]).toEqual([JSON.stringify({ sum: ACCOUNTS * BALANCE, orphans: 0, torn: 0 })]);
      expect(reads).toBeGreaterThan(50);
      await untilEqual([a, b], { accounts: "id", orders: "id", lines: "id" });
    });
  });
}
