/** The gate itself, and the promises of package.json, the lock file, the Makefile and .ci/run. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../tools/cache.mjs";
import { POSTGRES, RELEASE_TARGETS } from "../../tools/versions.mjs";
import { readJunit } from "../support/bun_test.ts";
import { leftovers, RUN_MARK } from "../support/leftovers.ts";
import { plan, tasks } from "../support/plan.ts";

const text = (path: string) => readFileSync(join(ROOT, path), "utf8");
const manifest = JSON.parse(text("package.json")) as Record<string, Record<string, string>>;
const COMMANDS = ["demo", "test", "bench", "build", "check", "cluster", "properties", "simulate", "planted", "release"];

describe("package.json", () => {
  test("package.json names exact versions only", () => {
    const versions = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });
    expect(versions.length).toBeGreaterThan(10);
    expect(versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
  });

  test("package.json and the Makefile have the same commands", () => {
    const makefile = text("Makefile");
    expect(COMMANDS.filter((name) => !new RegExp(`^${name}:`, "m").test(makefile))).toEqual([]);
    expect(Object.keys(manifest.scripts ?? {}).sort()).toEqual([...COMMANDS].sort());
  });

  test("the lock file holds no address of a registry", () => {
    const lock = JSON.parse(text("package-lock.json")) as { packages: Record<string, Record<string, unknown>> };
    expect(Object.entries(lock.packages).filter(([, { resolved }]) => resolved !== undefined)).toEqual([]);
    expect(Object.entries(lock.packages).filter(([path, { integrity }]) => path !== "" && !integrity)).toEqual([]);
  });

  test("what is fetched besides has exact versions for every major and target", () => {
    expect(Object.keys(POSTGRES)).toEqual(["14", "15", "16", "17", "18"]);
    for (const [major, version] of Object.entries(POSTGRES)) expect(version).toStartWith(`${major}.`);
    expect(Object.keys(RELEASE_TARGETS)).toEqual(["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"]);
  });
});

describe("the gate", () => {
  test(".ci/run runs make test and nothing else", () => {
    expect(statSync(join(ROOT, ".ci/run")).mode & 0o100).toBe(0o100);
    const lines = text(".ci/run")
      .split("\n")
      .filter((line) => /\bmake\b/.test(line));
    expect(lines).toEqual(["exec make test"]);
  });

  test("a JUnit report is counted by case, failures by name", () => {
    const xml = `<testsuites tests="4"><testsuite name="a.test.ts" tests="4" failures="1">
      <testcase name="passes &amp; ends" classname="x" time="0.1" file="a.test.ts" line="3" assertions="1" />
      <testcase name="fails" classname="x" time="0.1" file="a.test.ts" line="4" assertions="1">
        <failure type="AssertionError" />
      </testcase>
      <testcase name="waits" classname="x" time="0" file="a.test.ts" line="5"><skipped /></testcase>
      <testcase name="passes" classname="x" time="0.1" file="a.test.ts" line="6" assertions="1" /></testsuite></testsuites>`;
    expect(readJunit(xml)).toEqual({
      passed: 2,
      failed: 1,
      skipped: 1,
      failures: ["a.test.ts › x › fails"],
      missing: [],
      seconds: 0,
    });
  });

  test("a run without words has every suite, the static checks first", () => {
    const names = plan([]).map(({ name }) => name);
    expect(names.slice(0, 2)).toEqual(["static", "unit"]);
    expect(names).not.toContain("support");
  });

  test("words choose suites and parts of file names", () => {
    expect(plan(["unit"]).map(({ name }) => name)).toEqual(["unit"]);
    const [unit, ...rest] = plan(["unit", "tooling"]);
    expect(rest).toEqual([]);
    expect(unit?.files.map((file) => file.endsWith("tests/unit/tooling.test.ts"))).toEqual([true]);
    expect(plan(["static", "unit", "tooling"]).map(({ name }) => name)).toEqual(["static", "unit"]);
    expect(plan(["no such file anywhere"])).toEqual([]);
  });

  test("suites without servers are one task, of the others each file is one", () => {
    const named = tasks(plan(["static", "unit", "sql"]));
    expect(named[0]?.name).toBe("unit");
    expect(named.slice(1).every(({ suite, files }) => suite === "sql" && files.length === 1)).toBe(true);
    expect(named.map(({ name }) => name)).toContain("sql/capture");
  });

  test("a process that is left behind is found by the mark of its run", async () => {
    if (process.platform !== "linux") return;
    const run = `leftover-of-${process.pid}`;
    const child = Bun.spawn(["sleep", "60"], { env: { ...process.env, [RUN_MARK]: run } });
    try {
      expect(leftovers(run)).toEqual([{ pid: child.pid, command: "sleep 60" }]);
    } finally {
      child.kill("SIGKILL");
      await child.exited;
    }
    expect(leftovers(run)).toEqual([]);
  });

  test("node_modules has the programs that the gate runs", () => {
    for (const name of ["bun", "deno", "tsc", "biome"])
      expect(existsSync(join(ROOT, "node_modules/.bin", name))).toBe(true);
  });
});
