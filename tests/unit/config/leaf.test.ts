import { describe, expect, test } from "bun:test";
import { parseDuration, parseSize } from "../../../src/config/leaf.ts";

describe("durations and sizes", () => {
  test("a duration is a number and a unit", () => {
    expect(["500ms", "5s", "0.5s", "5m", "2h", "7d"].map(parseDuration)).toEqual([
      500, 5_000, 500, 300_000, 7_200_000, 604_800_000,
    ]);
    expect(["5", "5 s", "-1s", "s", "5S", "1w", ""].map(parseDuration)).toEqual(Array(7).fill(null));
  });
  test("a size is a number and a unit of bytes", () => {
    expect(["900kB", "64MB", "1GB", "1KiB", "10B"].map(parseSize)).toEqual([
      900_000, 64_000_000, 1_000_000_000, 1_024, 10,
    ]);
    expect(["900", "1kb", "1 MB"].map(parseSize)).toEqual([null, null, null]);
  });
});
