import { describe, expect, test } from "bun:test";
import { ByteQueue } from "../../../src/core/byte_queue.ts";

describe("ByteQueue", () => {
  test("I11: a giver waits while the queue holds its bytes, and goes on when one is taken", async () => {
    const queue = new ByteQueue<number>(100);
    await queue.push(1, 60);
    let given = false;
    const giving = queue.push(2, 60).then(() => {
      given = true;
    });
    await Promise.resolve();
    expect(given).toBe(false);
    expect(queue.bytes).toBe(60);
    expect(await queue.take()).toBe(1);
    await giving;
    expect(await queue.take()).toBe(2);
  });

  test("an item larger than the queue passes alone", async () => {
    const queue = new ByteQueue<string>(10);
    expect(await queue.push("large", 1_000)).toBe(true);
    expect(await queue.take()).toBe("large");
  });

  test("close lets what is inside be taken and refuses the rest", async () => {
    const queue = new ByteQueue<number>(10);
    await queue.push(1, 10);
    const refused = queue.push(2, 10);
    queue.close();
    expect(await refused).toBe(false);
    expect(await queue.take()).toBe(1);
    expect(await queue.take()).toBeUndefined();
  });

  test("fail throws after the items before it were taken", async () => {
    const queue = new ByteQueue<number>(10);
    await queue.push(1, 1);
    queue.fail(new Error("broken"));
    expect(await queue.take()).toBe(1);
    await expect(queue.take()).rejects.toThrow("broken");
  });

  test("take gives up after its time", async () => {
    expect(await new ByteQueue<number>(10).take(1)).toBeUndefined();
  });
});
