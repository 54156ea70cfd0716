/** Which suites a run has, and how their results add up. */
import { readdirSync, statSync } from "node:fs";
import { join, relative } from "node:path";

export const TESTS = join(import.meta.dir, "..");

export interface Suite {
  /** `static`, or the folder under tests/. */
  readonly name: string;
  /** Paths of its test files. */
  readonly files: readonly string[];
}

export interface Skip {
  readonly name: string;
  readonly reason: string;
  /** It does not fail a run that must have every suite. */
  readonly optional: boolean;
}

export interface Totals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly failures: readonly string[];
  /** Skips because a tool is missing on this machine. */
  readonly missing: readonly Skip[];
  /** How long its tasks took, added up. */
  readonly seconds: number;
}

export const none: Totals = { passed: 0, failed: 0, skipped: 0, failures: [], missing: [], seconds: 0 };

export function add(a: Totals, b: Totals): Totals {
  return {
    passed: a.passed + b.passed,
    failed: a.failed + b.failed,
    skipped: a.skipped + b.skipped,
    failures: [...a.failures, ...b.failures],
    missing: [...a.missing, ...b.missing],
    seconds: a.seconds + b.seconds,
  };
}

/** The quick ones first, then those one waits for longest; folders that are not named here come after them by name. */
const ORDER = ["static", "unit", "property", "sql", "e2e", "simulation", "conformance", "integration", "docs"];

function allSuites(): Suite[] {
  const found = new Map<string, string[]>([["static", []]]);
  for (const path of readdirSync(TESTS, { recursive: true }).map(String).sort()) {
    const folder = path.split("/")[0];
    if (!path.endsWith(".test.ts") || folder === undefined || folder === path) continue;
    found.set(folder, [...(found.get(folder) ?? []), join(TESTS, path)]);
  }
  const rank = (name: string) => (ORDER.indexOf(name) + ORDER.length + 1) % (ORDER.length + 1);
  return [...found]
    .map(([name, files]) => ({ name, files }))
    .sort((a, b) => rank(a.name) - rank(b.name) || (a.name < b.name ? -1 : 1));
}

/** `unit` is a suite, `kafka` every test file with kafka in its path, both together those of the suite; no word is all. */
export function plan(words: readonly string[]): Suite[] {
  const suites = allSuites();
  if (words.length === 0) return suites;
  const named = new Set(suites.map(({ name }) => name).filter((name) => words.includes(name)));
  const parts = words.filter((word) => !named.has(word));
  return suites.flatMap((suite) => {
    if (named.size > 0 && !named.has(suite.name)) return [];
    // The static checks have no files to choose from.
    if (parts.length === 0 || (suite.name === "static" && named.has("static"))) return [suite];
    const files = suite.files.filter((file) => parts.some((part) => file.slice(TESTS.length).includes(part)));
    return files.length > 0 ? [{ ...suite, files }] : [];
  });
}

/** What one `bun test` runs. */
export interface Task {
  readonly name: string;
  readonly suite: string;
  readonly files: readonly string[];
}

/** Their files are quick and start nothing: one task for all of them. */
const TOGETHER = new Set(["unit", "property"]);

/** The tasks of the suites but `static`, in order: of a suite the largest files first, they are the ones to wait for. */
export function tasks(suites: readonly Suite[]): Task[] {
  return suites.flatMap(({ name, files }) => {
    if (name === "static") return [];
    if (TOGETHER.has(name)) return [{ name, suite: name, files }];
    const size = (file: string) => statSync(file).size;
    return [...files]
      .sort((a, b) => size(b) - size(a))
      .map((file) => ({ name: relative(TESTS, file).replace(/\.test\.ts$/, ""), suite: name, files: [file] }));
  });
}
