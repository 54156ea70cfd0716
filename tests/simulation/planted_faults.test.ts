/** Every planted fault is caught, by a check that may see it; the same histories pass without it. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { FAULTS } from "./planted/faults.ts";
import { hunt } from "./planted/hunt.ts";

/** docs/planted_faults.md says how many each one needs. */
const MOST = 600;

describe("planted faults", () => {
  for (const fault of FAULTS) {
    test(`"${fault.name}" is caught: ${fault.what}`, async () => {
      const { failure, clean } = await new Promise<ReturnType<typeof hunt>>((resolve) => {
        setTimeout(() => resolve(hunt(fault, MOST)), 0);
      });
      expect(fault.caughtBy).toContain(failure?.check ?? "not caught");
      expect(clean).toBeNull();
    });
  }

  test("the page names every fault", () => {
    const page = readFileSync(join(import.meta.dir, "..", "..", "docs", "planted_faults.md"), "utf8");
    for (const { name, what } of FAULTS) expect(page).toContain(`| ${name} | ${what} |`);
    expect(page).not.toContain("not caught");
  });
});
