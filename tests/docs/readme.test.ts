/** The README's commands, statements and configurations work as they stand there. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sharedKafka } from "../servers/kafka.ts";
import { sharedPostgres } from "../servers/postgres.ts";
import { freePort } from "../servers/scratch.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(180_000);
const root = join(import.meta.dir, "../..");
const readme = readFileSync(join(root, "README.md"), "utf8");

const blocks = (language: string) =>
  [...readme.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)]
    .filter((match) => match[1] === language)
    .map((match) => match[2] ?? "");
const commands = blocks("console").flatMap((block) =>
  block
    .split("\n")
    .filter((line) => line.startsWith("$ "))
    .map((line) => line.slice(2)),
);

test("the README begins with its two commands", () => {
  expect(commands.slice(0, 2)).toEqual(["make demo", "make test"]);
  expect(readFileSync(join(root, ".ci/run"), "utf8")).toContain("exec make test\n");
});

test("every relative link of the README leads to a file", () => {
  const links = [...readme.matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1] ?? "");
  expect(links.length).toBeGreaterThan(3);
  expect(links.filter((link) => spawnSync("test", ["-e", join(root, link)]).status !== 0)).toEqual([]);
});

describeWith("postgres", "make demo", () => {
  test("proves both contours equal", () => {
    const demo = spawnSync("make", ["demo", "ARGS=--seconds 3"], { cwd: root, encoding: "utf8" });
    expect(`${demo.stdout}${demo.stderr}`).toContain("Both contours are equal.");
    expect(demo.status).toBe(0);
  });
});

describeWith(["kafka", "postgres", "psql"], "the quick start", () => {
  const folder = mkdtempSync(join(tmpdir(), "replicator-readme-"));
  const env: Record<string, string> = {};

  beforeAll(async () => {
    const server = await sharedPostgres();
    const kafka = await sharedKafka();
    await server.createDatabase("app");
    const address = new URL(server.url("app"));
    Object.assign(env, process.env, {
      PGHOST: address.hostname,
      PGPORT: address.port,
      PGUSER: address.username,
      PGPASSWORD: decodeURIComponent(address.password),
      DATABASE_URL: address.href,
      KAFKA_BROKERS: kafka.bootstrap,
      API_PORT: String(await freePort()),
      PATH: `${folder}:${process.env.PATH}`,
    });
    const program = `#!/bin/sh\nexec "${process.execPath}" "${join(root, "src/main.ts")}" "$@"\n`;
    writeFileSync(join(folder, "replicator"), program);
    chmodSync(join(folder, "replicator"), 0o755);
    symlinkSync(join(root, "sql"), join(folder, "sql"));
    writeFileSync(join(folder, "replicator.yaml"), blocks("yaml")[0] ?? "");
    const tables =
      "CREATE TABLE users (id bigint PRIMARY KEY, name text); CREATE TABLE payments (id bigint PRIMARY KEY)";
    expect(shell(`psql -d app -q -c '${tables}'`).status).toBe(0);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const shell = (command: string) => spawnSync("bash", ["-c", command], { cwd: folder, env, encoding: "utf8" });
  /** Commands that go on until they are stopped. */
  const runs = (command: string) => /^replicator --config \S+( --broker kafka --role consumer)? *(#|$)/.test(command);

  test("each of its commands does what it says", async () => {
    const rest = commands.slice(2);
    expect(rest.length).toBeGreaterThan(5);
    for (const command of rest) {
      if (!runs(command)) {
        const { status, stderr } = shell(command);
        expect(`${command}: ${status}\n${stderr}`).toStartWith(`${command}: 0\n`);
        continue;
      }
      const child = spawn("bash", ["-c", `exec ${command}`], { cwd: folder, env, stdio: "ignore" });
      const ended = exitOf(child);
      await until(`${command} is ready`, async () => {
        if (child.exitCode !== null) throw new Error(`${command} ended with ${child.exitCode}`);
        const answer = await fetch(`http://127.0.0.1:${env.API_PORT}/ready`).catch(() => null);
        return answer?.status === 200 || (await answer?.text());
      });
      child.kill("SIGTERM");
      expect(await ended).toBe(0);
    }
  });

  test("its SQL statements run", () => {
    for (const statement of blocks("sql")) {
      const { status, stderr } = shell(`psql -d app -v ON_ERROR_STOP=1 -q <<'EOF'\n${statement}\nEOF`);
      expect(`${status} ${stderr}`).toBe("0 ");
    }
  });

  test("every configuration in it and the example are accepted", () => {
    for (const [n, yaml] of blocks("yaml").entries()) {
      const whole = yaml.includes("service:")
        ? yaml
        : `service: { contour: a }\ndatabase: { url: postgres://u@h/d }\n${yaml}`;
      writeFileSync(join(folder, `block-${n}.yaml`), whole);
      const { status, stderr } = shell(`replicator config show --config block-${n}.yaml`);
      expect(`${status} ${stderr}`).toBe("0 ");
    }
  });
});

function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once("exit", (code) => resolve(code)));
}
