import { describe, expect, test } from "bun:test";
import { editDistance, nearest } from "../../../src/config/nearest.ts";

describe("nearest", () => {
  test("letters swapped, missing, doubled or wrong are forgiven", () => {
    const known = ["broker", "brokers", "database", "consumer"];
    expect(nearest("brokr", known)).toBe("broker");
    expect(nearest("borker", known)).toBe("broker");
    expect(nearest("databse", known)).toBe("database");
    expect(nearest("Consumer", known)).toBe("consumer");
  });
  test("a word far from all is none of them", () => {
    expect(nearest("zzz", ["broker", "log"])).toBeNull();
    expect(nearest("x", [])).toBeNull();
  });
  test("distance counts a swap of neighbours as one", () => {
    expect(editDistance("ab", "ba")).toBe(1);
    expect(editDistance("", "abc")).toBe(3);
    expect(editDistance("kitten", "sitting")).toBe(3);
  });
});
