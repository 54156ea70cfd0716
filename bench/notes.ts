/** What a reader of the figures has to know before believing them. */
import { FULL_SIZE } from "./arguments.ts";
import { QUIET_LOAD } from "./machine.ts";
import type { Result } from "./types.ts";

/** Sentences, none when nothing is to be said. */
export function notesOf({ quick, machine, size, failures }: Result): string[] {
  if (quick) return ["A quick run: it shows that everything works, its figures mean nothing.", ...failed(failures)];
  const full = new Map<string, number>(Object.entries(FULL_SIZE));
  const other = Object.entries(size).filter(([name, value]) => full.get(name) !== value);
  const sizes = other.map(([name, value]) => `${name} ${value} instead of ${full.get(name)}`);
  return [
    ...(machine.load_before > QUIET_LOAD
      ? [`The load average was ${machine.load_before} before the run: somebody else was at work.`]
      : []),
    ...(sizes.length > 0 ? [`Floors and goals are meant for other sizes: ${sizes.join(", ")}.`] : []),
    ...failed(failures),
  ];
}

function failed(failures: Result["failures"]): string[] {
  return failures.map((failure) => `Not measured: ${failure.split("\n")[0]}`);
}
