/** The tables of a result: figures with their spread, ratios to the yardstick, goals and floors. */
import { againstBulk, againstPlain, OF_PLAIN } from "./derived.ts";
import { judge, type Verdict } from "./goals.ts";
import { type Figure, figuresOf, type Spread } from "./statistics.ts";
import type { Condition, Result } from "./types.ts";

export interface Section {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

type Judge = (figure: Figure) => Verdict | null;

const CONDITION_WORDS: Readonly<Record<Condition, string>> = {
  plain: "",
  "old-transaction": ", an old transaction held open",
};

/** All figures, those derived from two others included. */
export function allFigures(result: Pick<Result, "samples">): Figure[] {
  const figures = figuresOf(result);
  return [...figures, ...againstPlain(figures), ...againstBulk(figures)];
}

/** One section for each metric, one for the processes of each workload, and last what was agreed on. */
export function sectionsOf(result: Pick<Result, "samples" | "yardsticks" | "quick">): Section[] {
  const figures = allFigures(result);
  const judgeOf = (figure: Figure): Verdict | null => {
    const verdict = judge(figure);
    return verdict && result.quick ? { ...verdict, word: "not judged" } : verdict;
  };
  const groups = groupBy(figures, ({ workload, condition, metric, process }) =>
    process === undefined ? [workload, condition, metric] : [workload, condition, "processes"],
  );
  // What the processes took stands below the figures it belongs to.
  const rank = ([one]: readonly Figure[]) => (one?.process === undefined ? 0 : 1);
  const ofOne = groupBy(groups, ([one]) => [one?.workload ?? "", one?.condition ?? ""]);
  const ordered = ofOne.flatMap((some) => some.sort((x, y) => rank(x) - rank(y)));
  const sections = ordered.map((group) =>
    group[0]?.process === undefined ? metricSection(group, result.yardsticks, judgeOf) : processSection(group),
  );
  const goals = goalSection(figures, judgeOf);
  return goals.rows.length > 0 ? [...sections, goals] : sections;
}

function metricSection(figures: readonly Figure[], yardsticks: Result["yardsticks"], judgeOf: Judge): Section {
  const [first] = figures as readonly [Figure, ...Figure[]];
  const yardstick = figures.some(({ ratio }) => ratio !== null) ? yardsticks[first.workload] : undefined;
  const judged = figures.map(judgeOf);
  const isJudged = judged.some((verdict) => verdict !== null);
  const head = [
    "",
    first.unit,
    "min – max",
    ...(yardstick ? [yardstick, `× ${yardstick}`, "min – max"] : []),
    ...(isJudged ? ["floor", "goal", "verdict"] : []),
  ];
  const rows = figures.map((figure, n) => [
    figure.contestant,
    number(figure.value.median),
    range(figure.value),
    ...(yardstick
      ? [
          figure.yardstick ? number(figure.yardstick.median) : "",
          figure.ratio ? ratio(figure.ratio.median) : "",
          figure.ratio ? `${ratio(figure.ratio.min)} – ${ratio(figure.ratio.max)}` : "",
        ]
      : []),
    ...(isJudged ? verdictCells(judged[n] ?? null) : []),
  ]);
  return { title: titleOf(first, first.metric), head, rows };
}

/** A line for each process of each contestant, a column for each metric. */
function processSection(figures: readonly Figure[]): Section {
  const [first] = figures as readonly [Figure, ...Figure[]];
  const columns = [...new Map(figures.map(({ metric, unit }) => [metric, `${metric} ${unit}`]))];
  const lines = groupBy(figures, ({ contestant, process }) => [contestant, process ?? ""]);
  const rows = lines.map((line) => {
    const cell = ([metric]: readonly [string, string]) => {
      const found = line.find((figure) => figure.metric === metric);
      return found ? number(found.value.median) : "";
    };
    return [`${line[0]?.contestant}: ${line[0]?.process}`, ...columns.map(cell)];
  });
  return { title: titleOf(first, "processes"), head: ["", ...columns.map(([, words]) => words)], rows };
}

function goalSection(figures: readonly Figure[], judgeOf: Judge): Section {
  const rows = figures.flatMap((figure) => {
    const verdict = judgeOf(figure);
    if (!verdict) return [];
    const { judged, goal } = verdict;
    const shown = goal.of === "ratio" ? (value: number) => `${ratio(value)} ×` : number;
    const process = figure.process ? ` of ${figure.process}` : "";
    const unit = goal.of === "ratio" ? "" : `, ${figure.unit}`;
    return [
      [
        `${titleOf(figure, figure.metric)}${process}${unit}`,
        figure.contestant,
        shown(judged.median),
        `${shown(judged.min)} – ${shown(judged.max)}`,
        ...verdictCells(verdict),
      ],
    ];
  });
  return {
    title: "Goals and floors (× is against the yardstick)",
    head: ["", "contestant", "median", "min – max", "floor", "goal", "verdict"],
    rows,
  };
}

function verdictCells(verdict: Verdict | null): string[] {
  if (!verdict) return ["", "", ""];
  const { floor, goal } = verdict.goal;
  return [floor === null ? "–" : String(floor), goal === null ? "–" : String(goal), verdict.word];
}

function titleOf({ workload, condition }: Figure, what: string): string {
  return `${workload}: ${what}${what.endsWith(OF_PLAIN) ? "" : CONDITION_WORDS[condition]}`;
}

/** Groups in the order of their first members. */
function groupBy<T>(items: readonly T[], keyOf: (item: T) => readonly string[]): T[][] {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = JSON.stringify(keyOf(item));
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return [...groups.values()];
}

function range({ min, max }: Spread): string {
  return `${number(min)} – ${number(max)}`;
}

function number(value: number): string {
  if (!Number.isFinite(value)) return "?";
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

function ratio(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(2);
}
