/**
 * How many cases each property has: 10,000, or what `make properties RUNS=1000000` says (PROPERTY_RUNS). A failure prints
 * its seed and path; `PROPERTY_SEED=… PROPERTY_PATH=… bun test tests/property -t "name of the test"` runs that case again.
 */
import type { Parameters } from "fast-check";

const { PROPERTY_RUNS, PROPERTY_SEED, PROPERTY_PATH } = process.env;

/** @throws RangeError when the environment names no count */
function runsOf(text: string | undefined): number {
  const runs = Number(text || 10_000);
  if (!Number.isSafeInteger(runs) || runs < 1) throw new RangeError(`PROPERTY_RUNS is "${text}", expected a count`);
  return runs;
}

export const RUNS: Parameters<unknown> = {
  numRuns: runsOf(PROPERTY_RUNS),
  ...(PROPERTY_SEED && { seed: Number(PROPERTY_SEED) }),
  ...(PROPERTY_PATH && { path: PROPERTY_PATH }),
};

/** Cases that cost a hundred times as much: a hundredth of them, at least 200. */
export const COSTLY: Parameters<unknown> = { ...RUNS, numRuns: Math.max(200, Math.ceil((RUNS.numRuns ?? 0) / 100)) };
