import { expect, test } from "bun:test";
import { notesOf } from "../../../bench/notes.ts";
import { result } from "./results.ts";

test("of a run at full size on a quiet machine nothing is to be said", () => {
  expect(notesOf(result([]))).toEqual([]);
});

test("a busy machine, other sizes and what failed are told", () => {
  const { machine, size } = result([]);
  const run = result([], {
    machine: { ...machine, load_before: 3.2 },
    size: { ...size, rows: 40_000 },
    failures: ["kafka: bulk, plain, kafka: 5 rows are there\n    at somewhere"],
  });
  expect(notesOf(run)).toEqual([
    "The load average was 3.2 before the run: somebody else was at work.",
    "Floors and goals are meant for other sizes: rows 40000 instead of 200000.",
    "Not measured: kafka: bulk, plain, kafka: 5 rows are there",
  ]);
});

test("of a quick run only that it is one, and what failed", () => {
  const run = result([], { quick: true, size: { ...result([]).size, rows: 1 }, failures: ["kafka: no"] });
  expect(notesOf(run)).toEqual([expect.stringContaining("its figures mean nothing"), "Not measured: kafka: no"]);
});
