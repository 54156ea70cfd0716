/** The temporary folder of this test process, the user that servers run as, and free ports. */
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const PREFIX = "replicator-test-";
/** `nobody`: PostgreSQL refuses to run as root. Undefined when we are an ordinary user already. */
const SERVER_USER = process.getuid?.() === 0 ? 65534 : undefined;

let root: string | undefined;
let serial = 0;

/** Credentials to start a server with. */
export const asServerUser = SERVER_USER === undefined ? {} : { uid: SERVER_USER, gid: SERVER_USER };

/** Whether the user that servers run as can reach a path through all its parents. */
export function reachable(path: string): boolean {
  if (SERVER_USER === undefined) return true;
  for (let at = path; at !== dirname(at); at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false;
  }
  return true;
}

/** Gives a path, with all below it when asked, to the user that servers run as. */
export function giveToServer(path: string, all = false): void {
  if (SERVER_USER === undefined) return;
  chownSync(path, SERVER_USER, SERVER_USER);
  if (!all) return;
  for (const name of readdirSync(path, { recursive: true }))
    chownSync(join(path, String(name)), SERVER_USER, SERVER_USER);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Removes what test processes that were killed have left. */
function sweep(base: string): void {
  for (const name of readdirSync(base)) {
    const pid = Number(name.startsWith(PREFIX) ? name.slice(PREFIX.length).split("-")[0] : Number.NaN);
    if (Number.isInteger(pid) && !isRunning(pid)) rmSync(join(base, name), { recursive: true, force: true });
  }
}

/** A new empty folder that goes when this process ends. */
export function scratch(name: string): string {
  if (root === undefined) {
    const base = [tmpdir(), "/tmp", "/var/tmp"].find(reachable) ?? tmpdir();
    sweep(base);
    root = mkdtempSync(join(base, `${PREFIX}${process.pid}-`));
    chmodSync(root, 0o755);
  }
  const folder = join(root, `${name}-${serial++}`);
  mkdirSync(folder, { mode: 0o755 });
  return folder;
}

/** Called once, when all servers are down. */
export function removeScratch(): void {
  if (root !== undefined) rmSync(root, { recursive: true, force: true });
  root = undefined;
}

const taken = new Set<number>();

/**
 * A port nobody listens on. Below the range that outgoing connections use, so that a server which is stopped for a while
 * finds its port free when it is started again.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = 15_000 + Math.floor(Math.random() * 15_000);
    if (taken.has(port) || !(await canListen(port))) continue;
    taken.add(port);
    return port;
  }
  throw new Error("No free port found between 15000 and 30000");
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
  });
}
