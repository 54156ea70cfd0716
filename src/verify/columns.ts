/** Which columns of two contours' tables are compared, by name: stamp columns by their part, whatever they are called. */
import type { TableShape } from "../core/verify.ts";

export interface ComparedColumns {
  /** Names here and there, place by place. */
  readonly here: readonly string[];
  readonly there: readonly string[];
  readonly onlyHere: readonly string[];
  readonly onlyThere: readonly string[];
  /** Why rows cannot be told apart by the key, or null. */
  readonly problem: string | null;
}

/** `there` was asked for with the key of `here`. */
export function comparedColumns(here: TableShape, there: TableShape): ComparedColumns {
  const theirs = new Map(there.columns.map((column) => [column.name, column]));
  const stampThere = new Map((here.stamp ?? []).map((name, part) => [name, there.stamp?.[part] ?? name]));
  const nameThere = (name: string) => stampThere.get(name) ?? name;
  const pairs: { here: string; there: string }[] = [];
  const onlyHere: string[] = [];
  const met = new Set<string>();
  for (const column of here.columns) {
    const other = theirs.get(nameThere(column.name));
    if (other) met.add(other.name);
    if (column.leftOut || other?.leftOut) continue;
    if (other) pairs.push({ here: column.name, there: other.name });
    else onlyHere.push(column.name);
  }
  const onlyThere = there.columns.filter(({ name, leftOut }) => !leftOut && !met.has(name)).map(({ name }) => name);
  return {
    here: pairs.map((pair) => pair.here),
    there: pairs.map((pair) => pair.there),
    onlyHere,
    onlyThere,
    problem: keyProblem(here, there),
  };
}

function keyProblem(here: TableShape, there: TableShape): string | null {
  if (here.key.length === 0) return "it has no key that could identify rows";
  for (const name of here.key) {
    const ours = here.columns.find((column) => column.name === name);
    const theirs = there.columns.find((column) => column.name === name);
    if (!theirs) return `its key column ${name} is not there`;
    if (ours?.type !== theirs.type) return `its key column ${name} is ${ours?.type} here and ${theirs.type} there`;
  }
  return null;
}
