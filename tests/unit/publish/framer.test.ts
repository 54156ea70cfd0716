import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Chunk } from "../../../src/core/chunk.ts";
import { encodeFrame } from "../../../src/core/frame.ts";
import { MESSAGE_LIMIT } from "../../../src/core/message.ts";
import { type FrameDraft, Framer, slices } from "../../../src/publish/framer.ts";

function chunkOf(transaction: number, n: number, data: string): Chunk {
  return {
    schema: "public",
    table: "t",
    operation: "INSERT",
    transaction: String(transaction),
    first_queue_id: String(n),
    captured_at: "2026-11-21T10:00:00.000000Z",
    rows: 1,
    key: ["id"],
    stamp: ["version", "updated_at", "updated_by"],
    data,
    old: null,
  };
}

function framesOf(chunks: readonly Chunk[], frameBytes: number): FrameDraft[] {
  const framer = new Framer(frameBytes);
  return [...chunks.flatMap((chunk) => framer.push(chunk)), ...framer.end()];
}

/** Transactions as lists of chunk sizes. */
const cuts = fc.array(fc.array(fc.integer({ min: 1, max: 3_000 }), { minLength: 1, maxLength: 12 }), { maxLength: 30 });
const build = (sizes: number[][]) => {
  let n = 0;
  return sizes.flatMap((transaction, xid) => transaction.map((size) => chunkOf(xid, n++, "x".repeat(size))));
};

describe("Framer", () => {
  test("I12: keeps every chunk in order and marks the parts of a transaction that spans frames", () => {
    fc.assert(
      fc.property(cuts, fc.integer({ min: 500, max: 8_000 }), (sizes, frameBytes) => {
        const chunks = build(sizes);
        const frames = framesOf(chunks, frameBytes);
        expect(frames.flatMap(({ chunks: some }) => some)).toEqual(chunks);
        const open = new Map<string, number>();
        for (const { chunks: some, part } of frames) {
          const transactions = new Set(some.map(({ transaction }) => transaction));
          if (part) {
            expect([...transactions]).toEqual([part.transaction]);
            expect(part.part).toBe((open.get(part.transaction) ?? 0) + 1);
            if (part.last) open.delete(part.transaction);
            else open.set(part.transaction, part.part);
          } else {
            for (const transaction of transactions) expect(open.has(transaction)).toBe(false);
          }
        }
        expect(open.size).toBe(0);
      }),
      { numRuns: 2_000 },
    );
  });

  test("I13: makes the same frames however the chunks were handed over", () => {
    const chunks = build([[10, 900], [400, 400, 400], [7_000], [1], [1]]);
    expect(framesOf(chunks, 1_000)).toEqual(framesOf(structuredClone(chunks), 1_000));
  });

  test("a chunk above the message limit is cut into fragments that join to the same text", () => {
    const data = `{"v":"${"ж😀".repeat(700_000)}"}`;
    const frames = framesOf([chunkOf(1, 1, '{"a":1}'), chunkOf(2, 2, data)], 256 * 1024);
    const pieces = frames.flatMap(({ chunks }) => chunks).filter(({ fragment }) => fragment);
    expect(pieces.map(({ data: piece }) => piece).join("")).toBe(data);
    expect(pieces.map(({ fragment }) => fragment?.index)).toEqual(pieces.map((_, index) => index));
    for (const { chunks } of frames) {
      const body = encodeFrame({ contour: "a", epoch: 1, sequence: 1, cut_no: 1, chunks });
      expect(body.length).toBeLessThan(MESSAGE_LIMIT);
    }
  });

  test("slices never split a surrogate pair", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.integer({ min: 2, max: 9 }), (text, units) => {
        const pieces = slices(text, units);
        expect(pieces.join("")).toBe(text);
        for (const piece of pieces) expect(piece.isWellFormed()).toBe(text.isWellFormed() || piece.isWellFormed());
      }),
    );
  });
});
