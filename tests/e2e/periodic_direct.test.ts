/** Polled tables in direct mode: the poll puts rows into the queue, the target reads it as ever. */
import { afterEach, expect, test } from "bun:test";
import { describeWith } from "../support/needs.ts";
import { type DirectPair, openDirect } from "./direct_pair.ts";
import { pollNow } from "./periodic_pair.ts";

describeWith("postgres", "polled tables in direct mode", () => {
  let pair: DirectPair | undefined;
  afterEach(() => pair?.close());

  test("are sent at the start and when asked, deletions too", async () => {
    pair = await openDirect({
      ddl: "CREATE TABLE products (id int PRIMARY KEY, v text)",
      tables: [],
      extra: { non_critical_tables: [{ name: "products", sync_interval: "1h" }] },
    });
    const { contour, source } = pair;
    await source`INSERT INTO products SELECT g, 'v' FROM generate_series(1, 2500) g`;
    const running = await contour.start();
    await pair.equal({ products: "id" });
    await source`DELETE FROM products WHERE id < 100`;
    expect((await pollNow(running, "products")).status).toBe(202);
    await pair.equal({ products: "id" });
  });
});
