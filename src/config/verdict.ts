/** Turns what the schema refuses into problems a person can mend: where, what was found, what is expected. */
import type { z } from "zod";
import { type DeclaredSection, declaredAt } from "./declared.ts";
import { misplacedKey, misplacedValue } from "./misplaced.ts";
import { nearest } from "./nearest.ts";
import { originAt, type Problem, pathText, type RawMap, type RawPath } from "./raw.ts";
import { redactUrls } from "./redact.ts";

export function problemsOf(issues: readonly z.core.$ZodIssue[], root: RawMap, input: unknown): Problem[] {
  return issues.flatMap((issue) => {
    const path = issue.path.map((step) => (typeof step === "number" ? step : String(step)));
    if (issue.code === "unrecognized_keys") return issue.keys.map((key) => unknownKey([...path, key], root));
    return [refusedValue(path, root, input)];
  });
}

function unknownKey(path: RawPath, root: RawMap): Problem {
  const problem = { origin: originAt(root, path), path: pathText(path) };
  const misplaced = misplacedKey(path);
  if (misplaced) return { ...problem, message: misplaced };
  const around = declaredAt(path.slice(0, -1));
  const section: DeclaredSection | null =
    around?.kind === "items" ? around.item : around?.kind === "section" ? around : null;
  const known = [...(section?.fields.keys() ?? [])];
  const meant = nearest(String(path.at(-1)), known);
  const hint = meant ? `did you mean ${pathText([...path.slice(0, -1), meant])}?` : `known here: ${known.join(", ")}`;
  return { ...problem, message: `is an unknown key; ${hint}` };
}

function refusedValue(path: RawPath, root: RawMap, input: unknown): Problem {
  const problem = { origin: originAt(root, path), path: pathText(path) };
  const value = valueAt(input, path);
  const misplaced = misplacedValue(path, value);
  if (misplaced) return { ...problem, message: `"${String(value)}" ${misplaced}` };
  const declared = declaredAt(path);
  const described = declared?.kind === "section" ? declared.scalar : declared;
  const listItem = typeof path.at(-1) === "number";
  const expected = described?.meta.expected ?? "a map of keys";
  const wanted = listItem && described?.kind === "items" ? "a map of keys" : expected;
  return { ...problem, message: `${found(value, described?.meta.secret === true)}, expected ${wanted}` };
}

function found(value: unknown, hidden: boolean): string {
  if (value === undefined || value === null) return "is missing";
  if (hidden) return "found a value that is not shown";
  if (Array.isArray(value)) return "found a list";
  if (typeof value === "object") return "found a map of keys";
  return `found "${redactUrls(String(value))}"`;
}

function valueAt(input: unknown, path: RawPath): unknown {
  let here = input;
  for (const step of path) {
    if (typeof here !== "object" || here === null) return undefined;
    here = Reflect.get(here, step);
  }
  return here;
}
