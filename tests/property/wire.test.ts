import { expect, test } from "bun:test";
import fc from "fast-check";
import { batchOf } from "../../src/consume/batch.ts";
import type { Chunk, Operation } from "../../src/core/chunk.ts";
import { ReplicatorError } from "../../src/core/errors.ts";
import { decodeFrame, encodeFrame } from "../../src/core/frame.ts";
import { type Envelope, envelopeHeaders, HEADER, messageId, parseEnvelope } from "../../src/core/message.ts";
import { hostileText } from "./arbitraries.ts";
import { RUNS } from "./runs.ts";

/** What Number() takes for a number and we must not. */
const hostileNumber = fc.constantFrom(
  "",
  " ",
  "1e3",
  "0x10",
  "-1",
  "+1",
  "1.5",
  " 7",
  "7 ",
  "９",
  "1234567890123456",
  "Infinity",
  "NaN",
);
const counter = fc.integer({ min: 0, max: 999_999_999_999_999 });
const contour = fc.stringMatching(/^[a-z0-9_-]{1,32}$/);
const channel = fc.stringMatching(/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}$/);

const chunk: fc.Arbitrary<Chunk> = fc.record({
  schema: hostileText,
  table: hostileText,
  operation: fc.constantFrom<Operation>("INSERT", "UPDATE", "DELETE", "TRUNCATE", "SNAPSHOT"),
  transaction: fc.bigInt(0n, 2n ** 64n - 1n).map(String),
  first_queue_id: fc.bigInt(0n, 2n ** 63n - 1n).map(String),
  captured_at: fc.constant("2026-11-21T10:00:00.123456Z"),
  rows: fc.integer({ min: 1, max: 1_000_000 }),
  key: fc.array(hostileText, { minLength: 1, maxLength: 3 }),
  stamp: fc.tuple(hostileText, hostileText, hostileText),
  data: hostileText,
  old: fc.option(hostileText),
});

test("frame/1 comes back as it went in, whatever texts, names and keys hold", () => {
  const frame = fc.record({
    contour,
    epoch: counter,
    sequence: counter,
    cut_no: counter,
    chunks: fc.array(chunk, { maxLength: 4 }),
  });
  fc.assert(
    fc.property(frame, (one) => {
      expect(decodeFrame(encodeFrame(one))).toEqual(one);
    }),
    RUNS,
  );
});

test("frame/1: a frame with bytes changed, lost or added is refused by name, or says something else", () => {
  const damage = fc.record({ at: fc.nat(), byte: fc.nat(255), kind: fc.constantFrom("change", "cut", "add") });
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 2 }), damage, (chunks, { at, byte, kind }) => {
      const frame = { contour: "a", epoch: 1, sequence: 2, cut_no: 3, chunks };
      const bytes = encodeFrame(frame);
      const place = at % bytes.length;
      const damaged =
        kind === "cut"
          ? bytes.subarray(0, place)
          : kind === "add"
            ? Uint8Array.of(...bytes, byte)
            : bytes.map((old, n) => (n === place ? byte : old));
      try {
        decodeFrame(damaged);
      } catch (error) {
        expect(error).toBeInstanceOf(ReplicatorError);
        return;
      }
      // What still parses was changed in one place; nothing was cut off or added.
      expect(kind).toBe("change");
    }),
    RUNS,
  );
});

test("I7: an event's body reaches the target as it was sent, pieces of large ones included", () => {
  const part = fc.option(
    fc.record({ transaction: fc.nat().map(String), part: fc.integer({ min: 1, max: 9 }), last: fc.boolean() }),
  );
  fc.assert(
    fc.property(hostileText, hostileText, part, (body, table, piece) => {
      const envelope = { contour: "a", epoch: 1, sequence: 4, cutNo: 2, cutEnd: false, part: piece };
      const { events } = batchOf(
        { format: "event/1", ...envelope },
        {
          body: new TextEncoder().encode(body),
          key: "{}",
          headers: { [HEADER.table]: table, [HEADER.operation]: "UPDATE" },
          next: { identity: "log", offset: "1" },
          attempt: 1,
          ack: () => undefined,
          nack: () => undefined,
        },
      );
      expect(events).toMatchObject([{ sequence: 4, table, operation: "UPDATE", body }]);
      expect(events[0]?.fragment).toEqual(
        piece ? { id: piece.transaction, index: piece.part - 1, last: piece.last } : undefined,
      );
    }),
    RUNS,
  );
});

test("An envelope comes back from its headers", () => {
  const envelope: fc.Arbitrary<Envelope> = fc.record({
    format: fc.constantFrom("frame/1", "event/1"),
    contour,
    epoch: counter,
    sequence: counter,
    cutNo: counter,
    cutEnd: fc.boolean(),
    part: fc.option(
      fc.record({
        transaction: fc.bigInt(0n, 2n ** 64n - 1n).map(String),
        part: fc.integer({ min: 1, max: 999_999_999 }),
        last: fc.boolean(),
      }),
    ),
  });
  fc.assert(
    fc.property(envelope, (one) => {
      expect(parseEnvelope(envelopeHeaders(one))).toEqual(one);
    }),
    RUNS,
  );
});

test("Headers that are not ours are refused by name, and never taken for numbers", () => {
  const names = Object.keys(
    envelopeHeaders({ format: "frame/1", contour: "a", epoch: 1, sequence: 1, cutNo: 1, cutEnd: true, part: null }),
  );
  fc.assert(
    fc.property(fc.constantFrom(...names), fc.oneof(hostileText, hostileNumber), (name, value) => {
      const headers = {
        ...envelopeHeaders({
          format: "frame/1",
          contour: "a",
          epoch: 1,
          sequence: 1,
          cutNo: 1,
          cutEnd: true,
          part: null,
        }),
        [name]: value,
      };
      try {
        const { epoch, sequence, cutNo } = parseEnvelope(headers);
        for (const number of [epoch, sequence, cutNo]) expect(Number.isSafeInteger(number)).toBe(true);
        const counters = [headers[HEADER.epoch], headers[HEADER.sequence], headers[HEADER.cut]];
        for (const text of counters) expect(text).toMatch(/^[0-9]{1,15}$/);
      } catch (error) {
        expect(error).toMatchObject({ code: "wire.bad_header" });
      }
    }),
    RUNS,
  );
});

test("A message's id names it: of two messages with one id everything is the same", () => {
  const place = fc.tuple(contour, counter, channel, fc.nat(999), counter);
  const near = place.chain((one) =>
    fc.tuple(
      fc.constant(one),
      fc.tuple(
        fc.constantFrom(one[0], "a"),
        fc.constantFrom(one[1], 1),
        fc.constantFrom(one[2], "t"),
        fc.constantFrom(one[3], 0),
        fc.constantFrom(one[4], 1),
      ),
    ),
  );
  fc.assert(
    fc.property(fc.oneof(near, fc.tuple(place, place)), ([a, b]) => {
      expect(messageId(...a) === messageId(...b)).toBe(a.every((part, n) => part === b[n]));
    }),
    RUNS,
  );
});
