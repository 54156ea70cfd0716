/** Figures of a contestant against another figure of its own. */
import { type Figure, spreadOf } from "./statistics.ts";

/** What the derived metrics are called. */
export const OF_PLAIN = "of the rate without an old transaction";
export const OF_BULK = "caught up, of the bulk rate";

/** With the old transaction against without it, round by round; only of rates. */
export function againstPlain(figures: readonly Figure[]): Figure[] {
  return figures
    .filter(({ condition, better, process }) => condition === "old-transaction" && better === "more" && !process)
    .flatMap((old) => {
      const plain = figures.find((figure) => figure.condition === "plain" && isSameMetric(figure, old));
      return plain ? derive(old, plain, `${old.metric}, ${OF_PLAIN}`) : [];
    });
}

/** How fast a backlog is caught up with against how fast a bulk INSERT goes through. */
export function againstBulk(figures: readonly Figure[]): Figure[] {
  return figures
    .filter(({ workload, metric }) => workload === "backlog" && metric === "caught up")
    .flatMap((backlog) => {
      const bulk = figures.find(
        ({ workload, metric, contestant, condition }) =>
          workload === "bulk" &&
          metric === "insert, from commit" &&
          contestant === backlog.contestant &&
          condition === backlog.condition,
      );
      return bulk ? derive(backlog, bulk, OF_BULK) : [];
    });
}

function isSameMetric(a: Figure, b: Figure): boolean {
  return a.workload === b.workload && a.metric === b.metric && a.contestant === b.contestant && a.process === b.process;
}

function derive(figure: Figure, base: Figure, metric: string): Figure[] {
  const shares = figure.values.flatMap((value, round) => {
    const against = base.values[round];
    return against !== undefined && against > 0 ? [(value / against) * 100] : [];
  });
  const value = spreadOf(shares);
  return value ? [{ ...figure, metric, unit: "%", value, values: shares, yardstick: null, ratio: null }] : [];
}
