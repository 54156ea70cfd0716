/** Two results side by side. Absolute figures of two machines or two days say little, so ratios are compared where there are. */
import { allFigures, type Section } from "./report.ts";
import type { Figure, Spread } from "./statistics.ts";
import type { Result } from "./types.ts";

export interface Comparison {
  /** What was not alike when the two were measured. */
  readonly differences: readonly string[];
  readonly section: Section;
}

/** Every figure that both have, in the order of the new one. */
export function compare(before: Result, now: Result): Comparison {
  const earlier = allFigures(before);
  const rows = allFigures(now).flatMap((figure) => {
    const old = earlier.find((one) => keyOf(one) === keyOf(figure));
    return old ? [rowOf(old, figure)] : [];
  });
  return {
    differences: differencesOf(before, now),
    section: {
      title: `Against the run of ${before.date}`,
      head: ["", "contestant", "then", "min – max", "now", "min – max", "change", ""],
      rows,
    },
  };
}

function keyOf({ workload, condition, metric, process, contestant }: Figure): string {
  return JSON.stringify([workload, condition, metric, process, contestant]);
}

function rowOf(old: Figure, figure: Figure): string[] {
  const asRatio = old.ratio !== null && figure.ratio !== null;
  const [then, now] = [
    asRatio && old.ratio ? old.ratio : old.value,
    asRatio && figure.ratio ? figure.ratio : figure.value,
  ];
  const show = (value: number) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2));
  const spread = ({ min, max }: Spread) => `${show(min)} – ${show(max)}`;
  const condition = figure.condition === "plain" ? "" : ", old transaction";
  const process = figure.process ? ` of ${figure.process}` : "";
  return [
    `${figure.workload}: ${figure.metric}${process}${condition}, ${asRatio ? "ratio" : figure.unit}`,
    figure.contestant,
    show(then.median),
    spread(then),
    show(now.median),
    spread(now),
    then.median === 0 ? "" : `${(((now.median - then.median) / Math.abs(then.median)) * 100).toFixed(0)} %`,
    wordFor(figure, then, now),
  ];
}

/** Spreads that overlap prove nothing. */
function wordFor({ better }: Figure, then: Spread, now: Spread): string {
  if (better === "neither" || (now.min <= then.max && then.min <= now.max)) return "";
  return now.median > then.median === (better === "more") ? "better" : "worse";
}

function differencesOf(before: Result, now: Result): string[] {
  const flat = ({ quick, rounds, size, machine: { versions, load_before: _, ...machine } }: Result) => ({
    quick,
    rounds,
    ...size,
    ...machine,
    ...versions,
  });
  const [then, here] = [Object.entries(flat(before)), new Map<string, unknown>(Object.entries(flat(now)))];
  return then.flatMap(([name, value]) =>
    here.get(name) === value ? [] : [`${name}: ${String(value)} then, ${String(here.get(name))} now`],
  );
}
