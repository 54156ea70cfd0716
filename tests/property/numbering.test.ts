import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Channel } from "../../src/core/channel.ts";
import type { Chunk, EventRow } from "../../src/core/chunk.ts";
import { decodeFrame } from "../../src/core/frame.ts";
import { type Message, parseEnvelope } from "../../src/core/message.ts";
import type { Cut } from "../../src/core/source_store.ts";
import { eventMessages, frameMessages } from "../../src/publish/messages.ts";
import { partitionOf } from "../../src/publish/partitioner.ts";
import { hostileText } from "./arbitraries.ts";
import { RUNS } from "./runs.ts";

const cutOf = (frameBytes: number): Cut => ({
  cutNo: 7,
  epoch: 3,
  snapFrom: "1:1:",
  snapTo: "2:2:",
  layoutVersion: 1,
  frameBytes,
  splitter: "greedy/1",
  takenAt: "2026-01-01T00:00:00.000000Z",
});

const row: fc.Arbitrary<EventRow> = fc
  .record({
    key: hostileText,
    body: hostileText,
    truncates: fc.integer({ min: 0, max: 9 }),
    queue_id: fc.nat().map(String),
  })
  .map(({ key, body, truncates, queue_id }) =>
    truncates === 0
      ? { key: "{}", body: `{${body}}`, table: "events", operation: "TRUNCATE", queue_id }
      : { key: JSON.stringify({ id: key }), body: `{${body}}`, table: "events", operation: "UPDATE", queue_id },
  );

/** A list dealt out in batches: where they end must not matter. */
const dealt = <T>(item: fc.Arbitrary<T>, maxLength: number) =>
  fc.array(fc.array(item, { maxLength: 4 }), { maxLength }).map((batches) => ({ batches, all: batches.flat() }));

async function* each<T>(batches: readonly (readonly T[])[]): AsyncGenerator<readonly T[]> {
  yield* batches;
}

async function collect(
  messages: AsyncGenerator<Message[], number[]>,
): Promise<{ sent: Message[]; sequences: number[] }> {
  const sent: Message[] = [];
  for (;;) {
    const step = await messages.next();
    if (step.done) return { sent, sequences: step.value };
    sent.push(...step.value);
  }
}

/** Contiguous from the starting numbers, the last of each partition alone ending the cut. */
function expectNumbered(sent: readonly Message[], start: readonly number[], end: readonly number[]): void {
  for (const [partition, before] of start.entries()) {
    const mine = sent.filter((message) => message.partition === partition).map(({ headers }) => parseEnvelope(headers));
    expect(mine.map(({ sequence }) => sequence)).toEqual(mine.map((_, n) => before + n + 1));
    expect(mine.map(({ cutEnd }) => cutEnd)).toEqual(mine.map((_, n) => n === mine.length - 1));
    expect(end[partition]).toBe(before + mine.length);
  }
  expect(new Set(sent.map(({ id }) => id)).size).toBe(sent.length);
}

test("I13: events are numbered without a hole per partition, the same however they are read, a key always in its partition", async () => {
  await fc.assert(
    fc.asyncProperty(
      dealt(row, 5),
      fc.array(fc.nat(100), { minLength: 1, maxLength: 4 }),
      async ({ batches, all }, start) => {
        const channel: Channel = { contour: "a", name: "events", kind: "events", partitions: start.length };
        const { sent, sequences } = await collect(eventMessages(channel, cutOf(1_000), start, each(batches)));
        expectNumbered(sent, start, sequences);
        expect(await collect(eventMessages(channel, cutOf(1_000), start, each([all])))).toEqual({ sent, sequences });
        const truncates = all.filter(({ operation }) => operation === "TRUNCATE").length;
        expect(sent.length).toBe(all.length + truncates * (start.length - 1));
        for (const { key, partition, headers } of sent)
          if (headers["replicator-operation"] !== "TRUNCATE")
            expect(partition).toBe(partitionOf(key ?? "", start.length));
      },
    ),
    RUNS,
  );
});

test("I13: frames are numbered without a hole, carry every chunk once, and are the same however the cut is read", async () => {
  const chunk = fc.record({ transaction: fc.nat(5), data: hostileText, pad: fc.nat(700) });
  await fc.assert(
    fc.asyncProperty(
      dealt(chunk, 5),
      fc.integer({ min: 500, max: 4_000 }),
      fc.nat(100),
      async ({ batches, all }, bytes, start) => {
        const channel: Channel = { contour: "a", name: "changes", kind: "frames", partitions: 1 };
        let n = 0;
        const made = new Map(
          all.map((one) => [one, chunkOf(++n, one.transaction, `{${one.data}${"x".repeat(one.pad)}}`)]),
        );
        const chunks = (some: readonly (typeof all)[number][]) => some.flatMap((one) => made.get(one) ?? []);
        const { sent, sequences } = await collect(
          frameMessages(channel, cutOf(bytes), [start], each(batches.map(chunks))),
        );
        expectNumbered(sent, [start], sequences);
        expect(await collect(frameMessages(channel, cutOf(bytes), [start], each([chunks(all)])))).toEqual({
          sent,
          sequences,
        });
        expect(sent.flatMap(({ body }) => decodeFrame(body).chunks)).toEqual(chunks(all));
      },
    ),
    RUNS,
  );
});

test("A key's partition is one of those there are, and stays the same", () => {
  fc.assert(
    fc.property(hostileText, fc.integer({ min: 1, max: 1_000 }), (key, partitions) => {
      const partition = partitionOf(key, partitions);
      expect(partition).toBeGreaterThanOrEqual(0);
      expect(partition).toBeLessThan(partitions);
      expect(partitionOf(key, partitions)).toBe(partition);
    }),
    RUNS,
  );
});

function chunkOf(n: number, transaction: number, data: string): Chunk {
  return {
    schema: "public",
    table: "users",
    operation: "INSERT",
    transaction: String(transaction),
    first_queue_id: String(n),
    captured_at: "2026-01-01T00:00:00.000000Z",
    rows: 1,
    key: ["id"],
    stamp: ["version", "updated_at", "updated_by"],
    data,
    old: null,
  };
}
