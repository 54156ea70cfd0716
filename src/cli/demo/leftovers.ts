/**
 * What ends a demo's servers when the demo itself was ended without a chance to (SIGKILL, a crash): a watchdog process at
 * once, and the next demo's start where the watchdog was ended as well.
 */
import { spawn, spawnSync } from "node:child_process";
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { systemClock } from "../../core/clock.ts";

const PREFIX = "replicator-demo-";
const END_TIMEOUT_MS = 5_000;

/** A new folder below `base` that says whose it is. */
export function demoFolder(base: string): string {
  return mkdtempSync(join(base, `${PREFIX}${process.pid}-`));
}

// Its standard input is a pipe of ours: it ends when we do, whatever ended us. A server that was just starting fails when
// its folder goes; what such a one has written meanwhile goes in the next round.
const WATCHDOG = `
cat >/dev/null
for round in 1 2 3; do
  [ -d "$1" ] || exit 0
  for file in "$1"/*/data/postmaster.pid; do
    [ -r "$file" ] && read -r pid <"$file" && kill -QUIT "$pid" 2>/dev/null
  done
  rm -rf "$1"
  sleep 1
done`;

/** Ends the servers below the folder and removes it when this process ends without having done so. */
export function watchFolder(folder: string): { close(): Promise<void> } {
  // A process group of its own: Ctrl-C and a closed terminal are not for it.
  const child = spawn("/bin/sh", ["-c", WATCHDOG, "sh", folder], {
    cwd: "/",
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    // Without a shell there is no watchdog; the next demo's start is left.
    child.once("error", () => resolve());
  });
  child.unref();
  return {
    async close() {
      child.stdin.end();
      await ended;
    },
  };
}

/** Ends the servers of demos that are gone and removes their folders. Returns the folders. */
export async function removeLeftovers(base: string): Promise<readonly string[]> {
  const gone: string[] = [];
  for (const name of readdirSync(base)) {
    const owner = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    const folder = join(base, name);
    if (owner === undefined || isRunning(Number(owner))) continue;
    try {
      if (!isOurs(folder)) continue;
      for (const pid of serversIn(folder)) await end(pid);
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
      gone.push(folder);
    } catch {
      // Another demo is at it, or it is not for us to remove.
    }
  }
  return gone;
}

/** The folder for temporary files is everybody's: another user's folder is not believed. */
function isOurs(folder: string): boolean {
  const { uid } = lstatSync(folder);
  return uid === process.getuid?.();
}

/** Processes that really are the servers of the data directories below the folder: numbers are used again. */
function serversIn(folder: string): number[] {
  return readdirSync(folder).flatMap((name) => {
    const data = join(folder, name, "data");
    try {
      const pid = Number(readFileSync(join(data, "postmaster.pid"), "utf8").split("\n")[0]);
      return Number.isInteger(pid) && pid > 1 && commandOf(pid).includes(data) ? [pid] : [];
    } catch {
      // No server, or none that got so far.
      return [];
    }
  });
}

function commandOf(pid: number): string {
  if (process.platform === "linux") return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  return spawnSync("ps", ["-o", "args=", "-p", String(pid)], { encoding: "utf8" }).stdout ?? "";
}

async function end(pid: number): Promise<void> {
  process.kill(pid, "SIGQUIT");
  const deadline = performance.now() + END_TIMEOUT_MS;
  while (isRunning(pid)) {
    if (performance.now() > deadline) return void process.kill(pid, "SIGKILL");
    await systemClock.sleep(20);
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && Reflect.get(error, "code") === "EPERM";
  }
}
