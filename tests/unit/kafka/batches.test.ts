import { describe, expect, test } from "bun:test";
import { BATCH_BYTES, BATCH_MESSAGES, batches, byPartition, sizeOf } from "../../../adapters/kafka/batches.ts";
import { message, messages, newChannel, range } from "../../conformance/broker/suite_support.ts";

const channel = newChannel({ partitions: 3 });

describe("Kafka's produce requests", () => {
  test("messages are divided by partition, with their places, in order", () => {
    const list = range(0, 8).map((n) => message(channel, n, { partition: n % 3 }));
    const parts = byPartition(list);
    expect([...parts.keys()]).toEqual([0, 1, 2]);
    expect(parts.get(1)?.map(({ index }) => index)).toEqual([1, 4, 7]);
  });

  test("a batch has a bounded number of bytes and messages, and every message is in one", () => {
    const bodies = [10, 400_000, 400_000, 400_000, 2_000_000, 10, 10];
    const list = bodies.map((size, n) => message(channel, n, { body: new Uint8Array(size) }));
    const made = [...batches(byPartition(list).get(0) ?? [])];
    expect(made.map((batch) => batch.map(({ index }) => index))).toEqual([[0, 1, 2], [3], [4], [5, 6]]);
    for (const batch of made) {
      const bytes = batch.reduce((sum, { message: each }) => sum + sizeOf(each), 0);
      if (batch.length > 1) expect(bytes).toBeLessThanOrEqual(BATCH_BYTES);
    }
    const many = [...batches(byPartition(messages(channel, 1, 1_200)).get(0) ?? [])];
    expect(many.map((batch) => batch.length)).toEqual([...Array(4).fill(BATCH_MESSAGES), 1_200 - 4 * BATCH_MESSAGES]);
  });

  test("nothing gives no batch", () => {
    expect([...batches([])]).toEqual([]);
  });
});
