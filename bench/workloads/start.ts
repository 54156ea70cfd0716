/** From the start of the compiled program to ready, and what it takes while nothing happens. */
import { memoryOf } from "../measurements.ts";
import type { Measurement, Size, Startable, WorkloadOn } from "../types.ts";
import { pause } from "../visible.ts";

async function measure(startable: Startable, { idleSeconds }: Size): Promise<Measurement[]> {
  const started = await startable.start();
  try {
    const before = started.usage();
    const from = performance.now();
    await pause(idleSeconds * 1_000);
    const elapsed = (performance.now() - from) / 1_000;
    const after = started.usage();
    const idle = Object.entries(after).map(([process, { cpuSeconds }]): Measurement => {
      const share = ((cpuSeconds - (before[process]?.cpuSeconds ?? 0)) / elapsed) * 100;
      return { metric: "idle, CPU of one core", unit: "%", better: "less", value: share, process };
    });
    return [
      { metric: "start to ready", unit: "ms", better: "less", value: started.readyMs },
      ...idle,
      ...memoryOf(after),
    ];
  } finally {
    await started.stop();
  }
}

export const workload: WorkloadOn<"process"> = {
  name: "start",
  about: "start of the compiled program to ready; processor time and memory of one that has nothing to do",
  on: "process",
  contestants: ["start-nats", "start-kafka"],
  conditions: ["plain"],
  measure,
};
