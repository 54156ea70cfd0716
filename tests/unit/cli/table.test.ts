import { expect, test } from "bun:test";
import { drawTable } from "../../../src/cli/table.ts";

test("drawTable lines columns up, folds line breaks and cuts what is too wide", () => {
  const drawn = drawTable(
    ["a", "long head"],
    [
      ["один", "x\ny"],
      ["b", "z".repeat(100)],
    ],
  ).split("\n");
  expect(drawn[0]).toBe("A     LONG HEAD");
  expect(drawn[1]).toBe("один  x y");
  expect(drawn[2]).toEndWith("z…");
  expect(drawn[2]?.length).toBe(78);
});
