import { expect, test } from "bun:test";
import { opening, runField, runWorkload } from "../../../bench/runner.ts";
import type { Condition, Sample, Size, Startable, WorkloadOn } from "../../../bench/types.ts";
import { loadWorkloads } from "../../../bench/workloads.ts";
import { result } from "./results.ts";

const SIZE = result([]).size;

/** A workload and two subjects that write down what happens to them. */
function scene(conditions: readonly Condition[] = ["plain"], failAt = Number.POSITIVE_INFINITY) {
  const events: string[] = [];
  const names = new Map<Startable, string>();
  const subject = (name: string): Startable => {
    const made: Startable = {
      start: () => Promise.reject(new Error("not started here")),
      holdTransaction: async () => {
        events.push(`hold ${name}`);
        return async () => {
          events.push(`release ${name}`);
        };
      },
      close: async () => undefined,
    };
    names.set(made, name);
    return made;
  };
  let measured = 0;
  const sizes: Size[] = [];
  const workload: WorkloadOn<"process"> = {
    name: "start",
    about: "",
    on: "process",
    contestants: [],
    conditions,
    measure: async (one, size) => {
      events.push(`measure ${names.get(one)}`);
      sizes.push(size);
      if (++measured > failAt) throw new Error("a row is missing");
      return [{ metric: "m", unit: "ms", better: "less", value: measured }];
    },
  };
  const match = { name: "nats", subject: subject("nats"), yardstick: subject("native") };
  return { events, sizes, workload, match };
}

function options(changes: { rounds?: number; quick?: boolean; conditions?: readonly Condition[] } = {}) {
  const samples: Sample[] = [];
  const common = { workloads: [], contestants: null, conditions: null, rounds: 2, size: SIZE, quick: true };
  return {
    ...common,
    ...changes,
    say: () => undefined,
    onFailure: () => undefined,
    onSamples: (more: readonly Sample[]) => samples.push(...more),
    samples,
  };
}

test("contestant and yardstick alternate, and each run of the contestant lies between two of the yardstick", async () => {
  const { workload, match, events } = scene();
  const run = options({ quick: false });
  await runWorkload(workload, match, run);
  const alternating = ["native", "nats", "native", "nats", "native"].map((name) => `measure ${name}`);
  expect(events).toEqual(["measure nats", "measure native", ...alternating]);
  expect(run.samples.map(({ role, round }) => `${role} ${round}`)).toEqual([
    ...["yardstick 0", "contestant 0", "yardstick 1", "contestant 1", "yardstick 2"],
  ]);
  expect(run.samples.every(({ contestant, workload: name }) => contestant === "nats" && name === "start")).toBe(true);
});

test("a warm-up is a tenth of the work and not recorded; a quick run has none, and no last run of the yardstick", async () => {
  const warm = scene();
  const run = options({ quick: false });
  await runWorkload(warm.workload, warm.match, run);
  expect(warm.sizes.map(({ rows }) => rows)).toEqual([20_000, 20_000, ...Array<number>(5).fill(200_000)]);
  expect(run.samples.map(({ value }) => value)).toEqual([3, 4, 5, 6, 7]);
  const quick = scene();
  await runWorkload(quick.workload, quick.match, options());
  expect(quick.events).toEqual(["measure native", "measure nats", "measure native", "measure nats"]);
});

test("the old transaction is open at both sources through all rounds, and only then", async () => {
  const { workload, match, events } = scene(["plain", "old-transaction"]);
  await runWorkload(workload, match, options({ rounds: 1 }));
  expect(events).toEqual([
    ...["measure native", "measure nats", "hold nats", "hold native", "measure native", "measure nats"],
    ...["release nats", "release native"],
  ]);
});

test("a failure says what failed where, ends the old transaction, and keeps what was measured before", async () => {
  const { workload, match, events } = scene(["plain", "old-transaction"], 3);
  const run = options({ rounds: 1 });
  const failed = runWorkload(workload, match, run);
  await expect(failed).rejects.toThrow("start, old-transaction, nats: a row is missing");
  expect(events.slice(-2)).toEqual(["release nats", "release native"]);
  expect(run.samples.length).toBe(2);
});

test("a contestant that fails is told, everything is closed, and the next one begins with a new yardstick", async () => {
  const { workload, match, events } = scene(["plain"], 1);
  const opener = (name: string, subject: Startable) => ({
    ...{ name, about: "" },
    open: async () => {
      events.push(`open ${name}`);
      return { ...subject, ...closing(name, events) };
    },
  });
  const field = {
    yardstick: opener("native", match.yardstick),
    contestants: [opener("nats", match.subject), opener("other", match.subject), opener("kafka", match.subject)],
  };
  const told: string[] = [];
  const run = { ...options({ rounds: 1 }), workloads: [workload], contestants: ["nats", "kafka"] };
  await runField("process", field, { ...run, onFailure: (message) => told.push(message) });
  expect(told).toEqual([
    "nats: start, plain, nats: a row is missing",
    "kafka: start, plain, its yardstick: a row is missing",
  ]);
  expect(events.filter((event) => !event.startsWith("measure"))).toEqual([
    ...["open native", "open nats", "close native", "close nats"],
    ...["open native", "open kafka", "close native", "close kafka"],
  ]);
});

function closing(name: string, events: string[]): Pick<Startable, "close"> {
  return {
    close: async () => {
      events.push(`close ${name}`);
    },
  };
}

test("who is opened: of each workload those that can take part, under a condition that it knows", async () => {
  const workloads = await loadWorkloads();
  const of = (
    names: readonly string[],
    more: { contestants?: readonly string[]; conditions?: readonly Condition[] },
  ) => [
    ...opening({
      ...{
        workloads: workloads.filter(({ name }) => names.includes(name)),
        contestants: null,
        conditions: null,
        quick: true,
      },
      ...more,
    }),
  ];
  expect(of(["start"], {})).toEqual(["start-nats", "start-kafka"]);
  expect(of(["start"], { conditions: ["old-transaction"] })).toEqual([]);
  expect(of(["start", "latency"], { contestants: ["kafka-row", "start-nats"] })).toEqual(["kafka-row", "start-nats"]);
});
