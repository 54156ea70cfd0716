/** Where fetched things lie, and how one is put there whole or not at all. Runs under Node and Bun. */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { KAFKA, NATS_SERVER, POSTGRES } from "./versions.mjs";

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
export const CACHE = join(ROOT, ".cache");

/** Folder with `bin/`, `lib/` and `share/` of one PostgreSQL major. */
export const postgresHome = (major) => join(CACHE, "postgres", POSTGRES[major]);
/** Folder of Kafka's jars. */
export const kafkaLibs = () => join(CACHE, "kafka", KAFKA, "libs");
/** Path of the nats-server program. */
export const natsServer = () => join(CACHE, "nats", NATS_SERVER, "nats-server");

/** Path of a program on PATH, or undefined. */
export function which(program) {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    if (folder !== "" && existsSync(join(folder, program))) return join(folder, program);
  }
  return undefined;
}

export const say = (text) => process.stderr.write(`${text}\n`);

/**
 * Runs a program to its end.
 * @throws Error with the end of what it printed when it fails
 */
export function run(program, args, options = {}) {
  const done = spawnSync(program, args, { encoding: "utf8", maxBuffer: 64 * 1024 * 1024, ...options });
  if (done.error) throw new Error(`Cannot run ${program}: ${done.error.message}`);
  if (done.status !== 0) {
    const said = `${done.stdout ?? ""}${done.stderr ?? ""}`.trim().split("\n").slice(-15).join("\n");
    throw new Error(`${program} ${args.slice(0, 3).join(" ")} ended with ${done.status ?? done.signal}\n${said}`);
  }
  return done.stdout ?? "";
}

/**
 * Calls `make(folder)` with an empty folder of the same file system and renames it into place when that succeeded, so a
 * fetch that was interrupted leaves nothing that looks complete.
 */
export function place(target, make) {
  if (existsSync(target)) return;
  const drafts = join(CACHE, "drafts");
  mkdirSync(drafts, { recursive: true });
  mkdirSync(dirname(target), { recursive: true });
  const draft = mkdtempSync(join(drafts, "draft-"));
  try {
    make(draft);
    chmodSync(draft, 0o755);
    if (!existsSync(target)) renameSync(draft, target);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** Unpacks an npm package's files into `folder`. The npm client checks its integrity. */
export function unpackNpm(spec, folder) {
  const printed = run("npm", ["pack", spec, "--silent", "--pack-destination", folder], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const archive = join(folder, printed.trim().split("\n").at(-1));
  run("tar", ["-xzf", archive, "-C", folder, "--strip-components=1", "--no-same-owner"]);
  rmSync(archive);
}
