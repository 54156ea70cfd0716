import { expect, test } from "bun:test";
import { murmur2, partitionOf } from "../../../src/publish/partitioner.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

test("murmur2 gives what Kafka's own UtilsTest expects", () => {
  const expected: [string, number][] = [
    ["21", -973932308],
    ["foobar", -790332482],
    ["a-little-bit-long-string", -985981536],
    ["a-little-bit-longer-string", -1486304829],
    ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
  ];
  for (const [text, hash] of expected) expect(murmur2(bytes(text))).toBe(hash);
});

test("a key keeps its partition and keys spread", () => {
  const seen = new Set(Array.from({ length: 200 }, (_, n) => partitionOf(`{"id":${n}}`, 6)));
  expect([...seen].sort()).toEqual([0, 1, 2, 3, 4, 5]);
  expect(partitionOf('{"id":1}', 1)).toBe(0);
});
