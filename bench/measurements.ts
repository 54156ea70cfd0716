/** Measurements that several workloads take. */
import type { Measurement } from "./types.ts";
import type { Usage } from "./usage.ts";

/**
 * Processor time per row of each process.
 * @param work names it: "insert"
 * @param rows rows the work has carried; of a transaction with two changes both count
 */
export function cpuPerRow(work: string, before: Usage, after: Usage, rows: number): Measurement[] {
  return Object.entries(after).map(([process, { cpuSeconds }]) => {
    const used = cpuSeconds - (before[process]?.cpuSeconds ?? 0);
    return { metric: `${work}, CPU`, unit: "µs/row", better: "less", value: (used * 1e6) / rows, process };
  });
}

/** Memory of each process. */
export function memoryOf(usage: Usage): Measurement[] {
  return Object.entries(usage).map(([process, { peakMb }]) => {
    return { metric: "memory", unit: "MB", better: "less", value: peakMb, process };
  });
}

/** The value below which a share of the sorted values lies. NaN of none. */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Milliseconds since 1970 with a fraction that counts: the same for all processes of a machine, and never set back. */
export function wallMs(): number {
  return performance.timeOrigin + performance.now();
}
