import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Chunk } from "../../../src/core/chunk.ts";
import { decodeFrame, encodeFrame } from "../../../src/core/frame.ts";

const chunk: Chunk = {
  schema: "public",
  table: "users",
  operation: "DELETE",
  transaction: "7345",
  first_queue_id: "1048576",
  captured_at: "2026-11-21T10:00:00.123456Z",
  rows: 1,
  key: ["id"],
  stamp: ["version", "updated_at", "updated_by"],
  data: '{"id":42,"version":8,"updated_at":"2026-11-21T10:00:00.123456+00:00","updated_by":"active"}',
  old: '{"id":42,"note":{"spaced" :\n 1}}',
};

describe("frame/1", () => {
  test("has the bytes that version 1 has for ever", () => {
    const frame = { contour: "active", epoch: 1, sequence: 12, cut_no: 311, chunks: [chunk] };
    expect(new TextDecoder().decode(encodeFrame(frame))).toBe(
      `{"format":"frame/1","contour":"active","epoch":1,"sequence":12,"cut_no":311,"chunks":1}
{"schema":"public","table":"users","operation":"DELETE","transaction":"7345","first_queue_id":"1048576","captured_at":"2026-11-21T10:00:00.123456Z","rows":1,"key":["id"],"stamp":["version","updated_at","updated_by"],"bytes":92,"old_bytes":33}
${chunk.data}
${chunk.old}
`,
    );
  });

  test("comes back as it went in, whatever text the rows hold", () => {
    const text = fc.string({ unit: "grapheme", minLength: 1 });
    fc.assert(
      fc.property(fc.array(fc.record({ data: text, old: fc.option(text) })), (rows) => {
        const chunks = rows.map((row) => ({ ...chunk, ...row }));
        const frame = { contour: "a", epoch: 2, sequence: 3, cut_no: 4, chunks };
        expect(decodeFrame(encodeFrame(frame))).toEqual(frame);
      }),
      { numRuns: 1_000 },
    );
  });

  test("a row larger than a message keeps which piece it is", () => {
    const frame = {
      contour: "a",
      epoch: 1,
      sequence: 1,
      cut_no: 1,
      chunks: [{ ...chunk, fragment: { index: 0, count: 3 } }],
    };
    expect(decodeFrame(encodeFrame(frame))).toEqual(frame);
  });

  test("a chunk's header that is none is refused, whatever member is wrong", () => {
    const wrong: Record<string, readonly unknown[]> = {
      schema: [1, null],
      table: [undefined],
      operation: ["MERGE", null, "toString"],
      transaction: [7345],
      first_queue_id: [1],
      captured_at: [null],
      rows: ["1", 0, 1.5],
      key: ["id", [1], null],
      stamp: [["version"], ["a", "b", "c", "d"], "abc"],
      fragment: [null, 1, {}, { index: -1, count: 1 }, { index: 0, count: 0 }],
    };
    for (const [member, values] of Object.entries(wrong)) {
      for (const value of values) {
        const broken = { ...chunk, [member]: value };
        const bytes = encodeFrame({ contour: "a", epoch: 1, sequence: 1, cut_no: 1, chunks: [broken] });
        expect(() => decodeFrame(bytes), `${member} ${JSON.stringify(value)}`).toThrow(
          /^Read a frame that has a chunk/,
        );
      }
    }
  });

  test("a damaged frame is refused with a name, at every length", () => {
    const whole = encodeFrame({ contour: "a", epoch: 1, sequence: 1, cut_no: 1, chunks: [chunk, chunk] });
    for (let length = 0; length < whole.length; length++) {
      expect(() => decodeFrame(whole.subarray(0, length))).toThrow(/^Read a frame that/);
    }
  });
});
