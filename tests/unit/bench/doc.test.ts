import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { withFigures } from "../../../bench/doc.ts";
import { ROOT } from "../../../tools/cache.mjs";
import { RATE, result, samples } from "./results.ts";

const page = readFileSync(join(ROOT, "docs/benchmarks.md"), "utf8");
const run = result(samples(RATE, [500, 500, 500], [1_000, 1_000, 1_000, 1_000]));

test("the figures of a result take the place of what stood between the markers, verdicts first", () => {
  const written = withFigures(page, run);
  const [before, after] = [page.split("<!-- figures: begin")[0] ?? "", page.split("<!-- figures: end -->")[1] ?? ""];
  expect(before.length).toBeGreaterThan(500);
  expect(written).toStartWith(before);
  expect(written).toEndWith(`<!-- figures: end -->${after}`);
  expect(written).toContain("Measured on 2026-11-26 on 2 × a machine");
  expect(written).toContain(
    "| bulk: insert, from commit | nats | 0.50 × | 0.50 × – 0.50 × | 0.4 | 0.8 | floor reached |",
  );
  expect(written.indexOf("### Goals and floors")).toBeLessThan(written.indexOf("### bulk: insert, from commit"));
  expect(withFigures(written, run)).toBe(written);
});

test("what could not be measured stands in the page as well", () => {
  expect(withFigures(page, { ...run, failures: ["kafka: bulk, plain: 5 rows\nmore"] })).toContain(
    "\n* Not measured: kafka: bulk, plain: 5 rows\n",
  );
});

test("the figures of a quick run do not go into the page", () => {
  expect(() => withFigures(page, { ...run, quick: true })).toThrow("A --quick run measures nothing");
});

test("a page without the markers is refused", () => {
  expect(() => withFigures("# Benchmarks\n", run)).toThrow("The page has no lines");
});
