/** From samples to figures with a spread, and to ratios of runs that were neighbours. */
import type { Condition, Measurement, Result, Sample } from "./types.ts";

export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

/** What is known of one metric of one contestant. */
export interface Figure extends Omit<Measurement, "value"> {
  readonly workload: string;
  readonly condition: Condition;
  readonly contestant: string;
  readonly value: Spread;
  /** The yardstick's runs next to this contestant's. */
  readonly yardstick: Spread | null;
  /** Each run against the mean of the yardstick's runs before and after it; null where the yardstick has no such metric. */
  readonly ratio: Spread | null;
  /** By round, for what is derived from two figures. */
  readonly values: readonly number[];
}

/** Null of no values. The median of an even number of values is the mean of the middle two. */
export function spreadOf(values: readonly number[]): Spread | null {
  const sorted = [...values].sort((x, y) => x - y);
  const middle = sorted[Math.floor(sorted.length / 2)];
  const other = sorted[Math.ceil(sorted.length / 2) - 1];
  const [min, max] = [sorted[0], sorted.at(-1)];
  if (min === undefined || max === undefined || middle === undefined || other === undefined) return null;
  return { min, median: (middle + other) / 2, max };
}

/** One figure for each metric, contestant and condition, in the order they were measured. */
export function figuresOf(result: Pick<Result, "samples">): Figure[] {
  const groups = new Map<string, Sample[]>();
  for (const sample of result.samples) {
    const { workload, condition, contestant, metric, process } = sample;
    const key = JSON.stringify([workload, condition, metric, process, contestant]);
    const group = groups.get(key);
    if (group) group.push(sample);
    else groups.set(key, [sample]);
  }
  return [...groups.values()].flatMap((samples) => {
    const own = samples.filter(({ role }) => role === "contestant").sort((x, y) => x.round - y.round);
    const value = spreadOf(own.map((sample) => sample.value));
    const [first] = own;
    if (!first || !value) return [];
    const yardstick = new Map(
      samples.filter(({ role }) => role === "yardstick").map((sample) => [sample.round, sample.value]),
    );
    const { workload, condition, contestant, metric, unit, better, process } = first;
    return [
      {
        ...{ workload, condition, contestant, metric, unit, better, value },
        ...(process === undefined ? {} : { process }),
        values: own.map((sample) => sample.value),
        yardstick: spreadOf([...yardstick.values()]),
        // A share that is compared with a share says nothing.
        ratio:
          unit === "%"
            ? null
            : spreadOf(own.flatMap((sample) => ratioTo(neighbours(yardstick, sample.round), sample.value))),
      },
    ];
  });
}

function neighbours(yardstick: ReadonlyMap<number, number>, round: number): number[] {
  return [yardstick.get(round), yardstick.get(round + 1)].filter((value) => value !== undefined);
}

/** Empty where there is nothing to compare with. */
function ratioTo(yardstick: readonly number[], value: number): number[] {
  const mean = yardstick.reduce((sum, one) => sum + one, 0) / yardstick.length;
  return mean > 0 ? [value / mean] : [];
}
