/** What the figures are to reach. The one place to change it. */
import { OF_BULK, OF_PLAIN } from "./derived.ts";
import type { Figure, Spread } from "./statistics.ts";

export interface Goal {
  readonly workload: string;
  readonly metrics: readonly string[];
  readonly contestants: readonly string[];
  /** Absent: of figures that belong to no process. */
  readonly processes?: readonly string[];
  /** Absent: under every condition. */
  readonly condition?: Figure["condition"];
  /** ratio: to the yardstick. value: the figure itself, in its unit. */
  readonly of: "ratio" | "value";
  /** What must be reached; null: nothing was agreed on. */
  readonly floor: number | null;
  /** What is wished for. */
  readonly goal: number | null;
}

const BROKERS = ["nats", "kafka"];
const EVENTS = ["nats-events", "kafka-events"];
const STARTED = ["start-nats", "start-kafka"];
const REPLICATORS = ["publisher", "consumer", "replicator"];
const BULK_STATEMENTS = ["insert", "update", "delete"].map((operation) => `bulk ${operation} statement`);

export const GOALS: readonly Goal[] = [
  ...(
    [
      ["insert", 0.4, 0.8],
      ["update", 0.6, 1.2],
      ["delete", 0.4, 0.8],
    ] as const
  ).map(
    ([operation, floor, goal]): Goal => ({
      workload: "bulk",
      metrics: [`${operation}, from commit`],
      contestants: BROKERS,
      of: "ratio",
      floor,
      goal,
    }),
  ),
  { workload: "bulk", metrics: ["insert, from commit"], contestants: EVENTS, of: "ratio", floor: 0.12, goal: 0.3 },
  { workload: "latency", metrics: ["p50"], contestants: ["nats"], of: "value", floor: 8, goal: 3 },
  { workload: "latency", metrics: ["p99"], contestants: ["nats"], of: "value", floor: 30, goal: 10 },
  { workload: "latency", metrics: ["p50"], contestants: ["kafka"], of: "value", floor: 12, goal: 6 },
  { workload: "latency", metrics: ["p99"], contestants: ["kafka"], of: "value", floor: 50, goal: 20 },
  { workload: "pgbench", metrics: ["source rate"], contestants: BROKERS, of: "ratio", floor: 0.6, goal: 0.8 },
  {
    workload: "pgbench",
    metrics: ["lag growth, of the source rate"],
    contestants: BROKERS,
    of: "value",
    // What the noise of a lag that does not grow comes to within a run.
    floor: 2,
    goal: null,
  },
  {
    workload: "application",
    metrics: ["single-row transactions"],
    contestants: ["capture-auto"],
    of: "ratio",
    floor: 0.75,
    goal: 0.85,
  },
  {
    workload: "application",
    metrics: BULK_STATEMENTS,
    contestants: ["capture-auto"],
    of: "ratio",
    // Of the rate: three and two times the uncaptured statement's time.
    floor: 1 / 3,
    goal: 0.5,
  },
  { workload: "backlog", metrics: [OF_BULK], contestants: BROKERS, of: "value", floor: 80, goal: 100 },
  ...["backlog", "bulk", "latency", "pgbench", "start"].map(
    (workload): Goal => ({
      workload,
      metrics: ["memory"],
      contestants: [...BROKERS, ...EVENTS, ...STARTED],
      processes: REPLICATORS,
      of: "value",
      floor: 200,
      goal: null,
    }),
  ),
  ...["bulk", "pgbench", "backlog"].map(
    (workload): Goal => ({
      workload,
      metrics: [
        "insert, from commit",
        "update, from commit",
        "delete, from commit",
        "applied while it runs",
        "caught up",
      ].map((metric) => `${metric}, ${OF_PLAIN}`),
      contestants: BROKERS,
      condition: "old-transaction",
      of: "value",
      floor: 90,
      goal: 100,
    }),
  ),
  {
    workload: "start",
    metrics: ["start to ready"],
    contestants: STARTED,
    of: "value",
    floor: 300,
    goal: 150,
  },
  ...(
    [
      ["start-nats", 1, 0.5],
      ["start-kafka", 4, 3],
    ] as const
  ).map(
    ([contestant, floor, goal]): Goal => ({
      workload: "start",
      metrics: ["idle, CPU of one core"],
      contestants: [contestant],
      processes: REPLICATORS,
      of: "value",
      floor,
      goal,
    }),
  ),
];

export interface Verdict {
  readonly goal: Goal;
  /** What is judged: the ratio's or the value's spread; its median decides. */
  readonly judged: Spread;
  readonly word: "goal reached" | "floor reached" | "short" | "no floor set" | "not judged";
}

/** Null when nothing was agreed on for this figure, or there is no ratio to judge. */
export function judge(figure: Figure): Verdict | null {
  const goal = GOALS.find((one) => isAbout(one, figure));
  const judged = goal?.of === "ratio" ? figure.ratio : figure.value;
  if (!goal || !judged) return null;
  const reaches = (bound: number) => (figure.better === "more" ? judged.median >= bound : judged.median <= bound);
  const word = () => {
    if (goal.goal !== null && reaches(goal.goal)) return "goal reached";
    if (goal.floor === null) return goal.goal === null ? "no floor set" : "short";
    return reaches(goal.floor) ? "floor reached" : "short";
  };
  return { goal, judged, word: word() };
}

function isAbout(goal: Goal, { workload, metric, contestant, process, condition }: Figure): boolean {
  return (
    goal.workload === workload &&
    goal.metrics.includes(metric) &&
    goal.contestants.includes(contestant) &&
    (goal.processes ? process !== undefined && goal.processes.includes(process) : process === undefined) &&
    (goal.condition === undefined || goal.condition === condition)
  );
}
