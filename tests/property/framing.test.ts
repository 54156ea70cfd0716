import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Chunk } from "../../src/core/chunk.ts";
import { type FrameDraft, Framer, slices } from "../../src/publish/framer.ts";
import { hostileText } from "./arbitraries.ts";
import { COSTLY, RUNS } from "./runs.ts";

/** Room for the header line that the framer counts for each chunk. */
const OVERHEAD = 400;

const chunkOf = (transaction: number, n: number, data: string, old: string | null): Chunk => ({
  schema: "public",
  table: "users",
  operation: old === null ? "INSERT" : "DELETE",
  transaction: String(transaction),
  first_queue_id: String(n),
  captured_at: "2026-01-01T00:00:00.000000Z",
  rows: 1,
  key: ["id"],
  stamp: ["version", "updated_at", "updated_by"],
  data,
  old,
});

/** A cut: transactions of some chunks each. */
const cutOf = (data: fc.Arbitrary<string>) =>
  fc
    .array(
      fc.array(fc.record({ data, old: fc.option(fc.constantFrom("{}", '{"é":1}')) }), { minLength: 1, maxLength: 6 }),
      {
        maxLength: 6,
      },
    )
    .map((transactions) => {
      let n = 0;
      return transactions.flatMap((chunks, at) => chunks.map(({ data, old }) => chunkOf(at + 1, ++n, data, old)));
    });

const small = fc.tuple(hostileText, fc.nat(1_500)).map(([text, length]) => `{${text}${"é".repeat(length)}}`);
const cut = cutOf(small);
const frameBytes = fc.integer({ min: 500, max: 6_000 });

function framesOf(chunks: readonly Chunk[], bytes: number): FrameDraft[] {
  const framer = new Framer(bytes);
  return [...chunks.flatMap((chunk) => framer.push(chunk)), ...framer.end()];
}

function sizeOf({ data, old }: Chunk): number {
  return Buffer.byteLength(data) + (old === null ? 0 : Buffer.byteLength(old)) + OVERHEAD;
}

/** The chunks of frames with the pieces of large rows joined. */
function rejoined(frames: readonly FrameDraft[]): Chunk[] {
  const chunks: Chunk[] = [];
  let text = "";
  for (const chunk of frames.flatMap((frame) => frame.chunks)) {
    const { fragment, ...whole } = chunk;
    text += chunk.data;
    if (fragment && fragment.index < fragment.count - 1) continue;
    chunks.push({ ...whole, data: text });
    text = "";
  }
  return chunks;
}

test("I13: the frames of a cut rejoin to its chunks, in order, for every size of frames", () => {
  fc.assert(
    fc.property(cut, frameBytes, (chunks, bytes) => {
      const frames = framesOf(chunks, bytes);
      expect(frames.flatMap((frame) => frame.chunks)).toEqual(chunks);
      expect(framesOf(chunks, bytes)).toEqual(frames);
    }),
    RUNS,
  );
});

test("I12: a frame holds whole transactions, or is a numbered part of one, the last of which says so", () => {
  fc.assert(
    fc.property(cut, frameBytes, (chunks, bytes) => {
      const frames = framesOf(chunks, bytes);
      const whole = new Set<string>();
      let expected = 1;
      for (const { chunks: some, part } of frames) {
        const transactions = new Set(some.map(({ transaction }) => transaction));
        for (const transaction of transactions) expect(whole.has(transaction)).toBe(false);
        if (part === null) {
          expect(expected).toBe(1);
          for (const transaction of transactions) whole.add(transaction);
          continue;
        }
        expect(part.part).toBe(expected);
        expect([...transactions]).toEqual([part.transaction]);
        expected = part.last ? 1 : expected + 1;
        if (part.last) whole.add(part.transaction);
      }
      expect(expected).toBe(1);
      expect(whole.size).toBe(new Set(chunks.map(({ transaction }) => transaction)).size);
    }),
    RUNS,
  );
});

test("I11: a frame is no larger than asked for, unless a single chunk is", () => {
  fc.assert(
    fc.property(cut, frameBytes, (chunks, bytes) => {
      for (const { chunks: some } of framesOf(chunks, bytes)) {
        expect(some.length).toBeGreaterThan(0);
        if (some.length > 1) expect(some.reduce((sum, chunk) => sum + sizeOf(chunk), 0)).toBeLessThanOrEqual(bytes);
      }
    }),
    RUNS,
  );
});

test("Rows larger than a message come in pieces below its limit, and rejoin", () => {
  const unit = fc.constantFrom("x", "é", "漢", "🦔", "a🦔");
  const large = fc
    .tuple(unit, fc.integer({ min: 1, max: 1_200_000 }))
    .map(([one, bytes]) => `{${one.repeat(Math.ceil(bytes / Buffer.byteLength(one)))}}`);
  fc.assert(
    fc.property(cutOf(fc.oneof({ weight: 6, arbitrary: small }, { weight: 1, arbitrary: large })), (chunks) => {
      const frames = framesOf(chunks, 880_000);
      const limit = 900_000;
      for (const frame of frames) for (const chunk of frame.chunks) expect(sizeOf(chunk)).toBeLessThan(limit);
      // The old image of a row too large for a message is left out.
      const joined = rejoined(frames).map((chunk, n) => ({ ...chunk, old: chunk.old ?? chunks[n]?.old ?? null }));
      expect(joined).toEqual(chunks);
    }),
    { ...COSTLY, numRuns: Math.min(COSTLY.numRuns ?? 0, 2_000) },
  );
});

test("A text cut into slices rejoins, and no slice ends inside a surrogate pair", () => {
  fc.assert(
    fc.property(hostileText, fc.integer({ min: 2, max: 9 }), (text, units) => {
      const pieces = slices(text, units);
      expect(pieces.join("")).toBe(text);
      for (const piece of pieces) {
        expect(piece.isWellFormed()).toBe(true);
        expect(piece.length).toBeLessThanOrEqual(units);
        expect(piece.length).toBeGreaterThan(0);
      }
    }),
    RUNS,
  );
});
