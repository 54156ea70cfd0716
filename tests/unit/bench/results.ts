/** Results of runs that never were. */
import { FULL_SIZE } from "../../../bench/arguments.ts";
import type { Measurement, Result, Sample } from "../../../bench/types.ts";

export const RATE = { metric: "insert, from commit", unit: "rows/s", better: "more" } as const;

/** Runs of one contestant and of its yardstick, in the order of the rounds. */
export function samples(
  place: Partial<Sample> & Omit<Measurement, "value">,
  contestant: readonly number[],
  yardstick: readonly number[] = [],
): Sample[] {
  const common = { workload: "bulk", condition: "plain", contestant: "nats", ...place } as const;
  const of = (role: Sample["role"]) => (value: number, round: number) => ({ ...common, role, round, value });
  return [...yardstick.map(of("yardstick")), ...contestant.map(of("contestant"))];
}

export function result(taken: readonly Sample[], changes: Partial<Result> = {}): Result {
  return {
    format: 1,
    date: "2026-11-26T10:00:00.000Z",
    quick: false,
    rounds: 3,
    size: FULL_SIZE,
    machine: {
      processors: 2,
      model: "a machine",
      memory_gb: 16,
      kernel: "6.1",
      load_before: 0.1,
      versions: { postgresql: "17.1" },
      program: "sources",
    },
    yardsticks: { bulk: "native" },
    samples: taken,
    failures: [],
    ...changes,
  };
}
