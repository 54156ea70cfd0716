/** Does a lag grow while the load goes on? */

export interface LagSample {
  /** Milliseconds, from any beginning. */
  readonly at: number;
  /** Transactions committed and not yet applied. */
  readonly lag: number;
}

/** The beginning of a load is not yet its steady state. */
const IGNORED_SHARE = 1 / 3;

/**
 * Transactions a second by which the lag grows (below 0: it shrinks): the slope of the least-squares line through the last
 * two thirds of the time. 0 of fewer than three samples.
 */
export function lagGrowth(samples: readonly LagSample[]): number {
  const [begin, end] = [samples[0]?.at ?? 0, samples.at(-1)?.at ?? 0];
  const late = samples.filter(({ at }) => at >= begin + (end - begin) * IGNORED_SHARE);
  if (late.length < 3) return 0;
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [at, lag] = [mean(late.map((sample) => sample.at)), mean(late.map((sample) => sample.lag))];
  const covariance = mean(late.map((sample) => (sample.at - at) * (sample.lag - lag)));
  const variance = mean(late.map((sample) => (sample.at - at) ** 2));
  return variance === 0 ? 0 : (covariance / variance) * 1_000;
}
