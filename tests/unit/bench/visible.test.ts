import { expect, test } from "bun:test";
import { wallMs } from "../../../bench/measurements.ts";
import { untilCounted } from "../../../bench/visible.ts";

const AWAITED = { what: "bulk insert", rows: 3, timeoutMs: 10_000 };

test("the rows are counted when the probe has succeeded, until all are there, and the time is that of asking", async () => {
  const said: string[] = [];
  const counts = [1, 2, 3];
  let asked = 0;
  const looks = {
    probe: async () => {
      said.push("probe");
      return said.length > 1;
    },
    count: async () => {
      said.push("count");
      asked = wallMs();
      const counted = counts.shift() ?? 0;
      // An answer that takes its time is not the fault of who is measured.
      if (counted === 3) await new Promise((resolve) => setTimeout(resolve, 50));
      return counted;
    },
  };
  const at = await untilCounted(looks, AWAITED);
  expect(said).toEqual(["probe", "probe", "count", "probe", "count", "probe", "count"]);
  expect(at).toBeLessThanOrEqual(asked);
  expect(at).toBeGreaterThan(asked - 10_000);
});

test("rows that are missing, or too many, are an error that tells how many there are", async () => {
  const looks = (there: boolean, counted: number) => ({ probe: async () => there, count: async () => counted });
  const short = { ...AWAITED, timeoutMs: 5 };
  await expect(untilCounted(looks(true, 2), short)).rejects.toThrow(
    "bulk insert: 2 rows are there after 0.005 s, expected 3",
  );
  await expect(untilCounted(looks(true, 4), short)).rejects.toThrow("4 rows are there");
  await expect(untilCounted(looks(false, 0), short)).rejects.toThrow("the last row is not as it should be");
});
