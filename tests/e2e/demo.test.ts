/** `make demo` as somebody who has just cloned the project uses it: it proves equality, and leaves nothing behind. */
import { afterEach, expect, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, readdirSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { startEmbedded } from "../../src/cli/demo/embedded_postgres.ts";
import { postgresHome } from "../../tools/cache.mjs";
import { reachable, scratch } from "../servers/scratch.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";

const root = join(import.meta.dir, "../..");
/** `nobody`. */
const ORDINARY = 65534;
const MARK = "REPLICATOR_DEMO_TEST";
const servers: Server[] = [];
const demos: Demo[] = [];

afterEach(() => {
  // Also what a demo that failed its test has left.
  for (const demo of demos.splice(0)) kill(demo, /./);
  for (const server of servers.splice(0)) server.close();
});

interface Demo {
  readonly child: ChildProcess;
  readonly folder: string;
  readonly ended: Promise<number>;
  output(): string;
  /** Processes that carry this demo's mark, servers included. */
  processes(): readonly string[];
}

/** Without a terminal; in a process group of its own, as a shell starts it. */
function makeDemo(args: string, user: { uid?: number; gid?: number } = {}, folder = scratch("demo")): Demo {
  chmodSync(folder, 0o777);
  const mark = crypto.randomUUID();
  const child = spawn("make", ["demo", `ARGS=${args}`], {
    cwd: root,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, TMPDIR: folder, HOME: folder, [MARK]: mark, MAKEFLAGS: "" },
    ...user,
  });
  let text = "";
  child.stdout?.on("data", (data) => (text += data));
  child.stderr?.on("data", (data) => (text += data));
  const ended = new Promise<number>((resolve) =>
    child.on("close", (code, signal) => resolve(code ?? (signal ? -1 : 0))),
  );
  const demo = { child, folder, ended, output: () => text, processes: () => marked(`${MARK}=${mark}`) };
  demos.push(demo);
  return demo;
}

/** Those of its processes whose command line is one of these. */
function kill(demo: Demo, ...programs: readonly RegExp[]): void {
  for (const line of demo.processes()) {
    if (programs.some((program) => program.test(line))) process.kill(Number.parseInt(line, 10), "SIGKILL");
  }
}

function marked(mark: string): string[] {
  return readdirSync("/proc").flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "latin1").includes(mark)) return [];
      return [`${pid} ${readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")}`];
    } catch {
      // It ended meanwhile, or belongs to somebody whose processes we may not look into.
      return [];
    }
  });
}

async function leavesNothing(demo: Demo): Promise<void> {
  await until("no process of the demo is left", () => demo.processes().length === 0 || demo.processes(), 10_000);
  expect(readdirSync(demo.folder).filter((name) => name.startsWith("replicator-demo-"))).toEqual([]);
}

async function take(port: number): Promise<void> {
  const server = createServer();
  servers.push(server);
  // Somebody else may have taken it already: all the better.
  await new Promise<void>((resolve) => server.once("error", () => resolve()).listen(port, "127.0.0.1", resolve));
}

describeWith(["postgres:17"], "make demo", () => {
  test("proves both contours equal, twice in a row, with the usual ports taken and without a terminal", async () => {
    for (const port of [5432, 5433, 8080, 8081, 4222, 9092]) await take(port);
    for (let round = 1; round <= 2; round++) {
      const demo = makeDemo("--seconds 2");
      expect([await demo.ended, demo.output()]).toEqual([0, expect.stringContaining("Both contours are equal.")]);
      expect(demo.output()).toMatch(/psql postgres:\/\/.*# contour a/);
      expect(demo.output()).not.toContain("\u001b[");
      await leavesNothing(demo);
    }
  }, 180_000);

  const asRoot = process.getuid?.() === 0;
  const reason = asRoot
    ? "another user cannot reach this checkout"
    : "this run is an ordinary user's, as the tests above";
  const skipped = !asRoot || !reachable(root);
  if (skipped) process.stderr.write(`SKIPPED works as an ordinary user: ${reason}\n`);
  test.skipIf(skipped)(
    skipped ? `works as an ordinary user (skipped: ${reason})` : "works as an ordinary user",
    async () => {
      const demo = makeDemo("--seconds 2", { uid: ORDINARY, gid: ORDINARY });
      expect([await demo.ended, demo.output()]).toEqual([0, expect.stringContaining("Both contours are equal.")]);
      await leavesNothing(demo);
    },
    120_000,
  );

  for (const [name, signal] of [
    ["Ctrl-C", "SIGINT"],
    ["a closed terminal", "SIGHUP"],
  ] as const) {
    test(`${name} while it runs ends it and leaves no process and no folder`, async () => {
      const demo = makeDemo("--seconds 600");
      await until("it runs", () => demo.output().includes("Look inside while it runs") || demo.output(), 60_000);
      expect(demo.processes().some((line) => line.includes("postgres"))).toBe(true);
      process.kill(-(demo.child.pid as number), signal);
      expect(await demo.ended).not.toBe(0);
      await leavesNothing(demo);
      expect(demo.output()).not.toContain("Internal error");
      expect(demo.output()).not.toContain("    at ");
    }, 120_000);
  }

  test("Ctrl-C before it runs, and impatient Ctrl-C, leave nothing either", async () => {
    const early = makeDemo("--seconds 600");
    await until("it starts", () => early.output().includes("Starting PostgreSQL") || early.output(), 60_000);
    process.kill(-(early.child.pid as number), "SIGINT");
    await early.ended;
    await leavesNothing(early);
    const impatient = makeDemo("--seconds 600");
    await until("it runs", () => impatient.output().includes("Look inside") || impatient.output(), 60_000);
    for (let n = 0; n < 3; n++) process.kill(-(impatient.child.pid as number), "SIGINT");
    await impatient.ended;
    await leavesNothing(impatient);
  }, 180_000);

  const started = async () => {
    const demo = makeDemo("--seconds 600");
    await until("it runs", () => demo.output().includes("Look inside while it runs") || demo.output(), 60_000);
    return demo;
  };
  const [PROGRAM, WATCHDOG] = [/main\.ts demo/, /replicator-demo-\d+-\w+ *$/];

  test("killed with SIGKILL it leaves no server running and no folder", async () => {
    const demo = await started();
    kill(demo, PROGRAM);
    await demo.ended;
    await leavesNothing(demo);
  }, 120_000);

  test("what it leaves when its watchdog was killed too is ended and removed by the next demo", async () => {
    const demo = await started();
    kill(demo, WATCHDOG);
    await until("the watchdog is gone", () => !demo.processes().some((line) => WATCHDOG.test(line)));
    kill(demo, PROGRAM);
    await demo.ended;
    expect(demo.processes().filter((line) => line.includes("/postgres -D"))).toHaveLength(2);
    const next = makeDemo("--seconds 1", {}, demo.folder);
    expect([await next.ended, next.output()]).toEqual([
      0,
      expect.stringContaining("Removed what a demo that was killed"),
    ]);
    await leavesNothing(demo);
    await leavesNothing(next);
  }, 120_000);

  test("the folder of a demo that runs is nobody else's to remove", async () => {
    const demo = await started();
    const next = makeDemo("--seconds 1", {}, demo.folder);
    expect([await next.ended, next.output()]).toEqual([0, expect.not.stringContaining("Removed")]);
    process.kill(-(demo.child.pid as number), "SIGINT");
    await demo.ended;
    await leavesNothing(demo);
  }, 120_000);

  test("a port that is taken between choosing and using it is given up for another one", async () => {
    const folder = scratch("embedded");
    const blocker = createServer();
    servers.push(blocker);
    await new Promise<void>((resolve) => blocker.listen(0, "127.0.0.1", resolve));
    const address = blocker.address();
    const taken = typeof address === "object" && address ? address.port : 0;
    let asked = 0;
    const pickPort = async () => (++asked === 1 ? taken : taken === 65_535 ? 1_024 + asked : taken - asked);
    const server = await startEmbedded(postgresHome("17"), folder, "a", pickPort);
    expect(asked).toBeGreaterThan(1);
    expect(server.url).not.toContain(`:${taken}/`);
    await server.stop();
  }, 60_000);
});
