/** A PostgreSQL server for the demo: its own data directory, a free port, a password of its own, gone afterwards. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  accessSync,
  appendFileSync,
  chmodSync,
  chownSync,
  constants,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { delimiter, dirname, join } from "node:path";
import process from "node:process";
import { systemClock } from "../../core/clock.ts";
import { ReplicatorError } from "../../core/errors.ts";

/** `nobody`: PostgreSQL refuses to run as root. */
const SERVER_USER = 65534;
const START_TIMEOUT_MS = 60_000;
const PORT_ATTEMPTS = 5;
const PORT_TAKEN = /Address already in use|could not create any TCP\/IP sockets/;
const MAJORS = ["18", "17", "16", "15", "14"];

export interface EmbeddedServer {
  /** Address with password. */
  readonly url: string;
  stop(): Promise<void>;
}

/**
 * Finds the folder that holds bin/initdb and bin/postgres: REPLICATOR_POSTGRES, the project's cache, PATH, Debian's place.
 * @throws ReplicatorError `demo.no_postgres`
 */
export function findPostgres(): string {
  const named = process.env.REPLICATOR_POSTGRES;
  const roots = [process.cwd(), join(import.meta.dirname ?? process.cwd(), "../../..")];
  const cached = roots.flatMap((root) => {
    const folder = join(root, ".cache/postgres");
    return existsSync(folder)
      ? readdirSync(folder)
          .sort()
          .reverse()
          .map((version) => join(folder, version))
      : [];
  });
  const onPath = (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => dirname(join(folder, "postgres")).replace(/\/bin$/, ""));
  const debian = MAJORS.map((major) => `/usr/lib/postgresql/${major}`);
  const candidates = named ? [named, dirname(named)] : [...cached, ...onPath, ...debian];
  const found = candidates.find(
    (home) => isExecutable(join(home, "bin/initdb")) && isExecutable(join(home, "bin/postgres")),
  );
  if (found) return found;
  throw new ReplicatorError({
    code: "demo.no_postgres",
    message: named
      ? `Looked for bin/initdb and bin/postgres in REPLICATOR_POSTGRES="${named}", found none`
      : "Found no PostgreSQL server programs (initdb, postgres) for the demo",
    retry: "never",
    fault: "environment",
    remedy:
      "In a checkout run `make demo`, which fetches them; else install PostgreSQL 14 or newer, or set REPLICATOR_POSTGRES to its folder",
  });
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Starts a server below `folder`. `pickPort` names a port that was free a moment ago; when somebody took it meanwhile it is
 * asked again.
 * @throws ReplicatorError `demo.postgres_failed` with the end of its log
 */
export async function startEmbedded(
  home: string,
  folder: string,
  name: string,
  pickPort: () => Promise<number> = freePort,
): Promise<EmbeddedServer> {
  const asRoot = process.getuid?.() === 0;
  const user = asRoot ? { uid: SERVER_USER, gid: SERVER_USER } : {};
  const base = join(folder, name);
  mkdirSync(base, { recursive: true, mode: 0o755 });
  if (asRoot) chownSync(base, SERVER_USER, SERVER_USER);
  const programs = asRoot ? reachableCopy(home, folder) : home;
  const data = join(base, "data");
  const password = randomBytes(9).toString("base64url");
  const passwordFile = join(base, "password");
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (asRoot) chownSync(passwordFile, SERVER_USER, SERVER_USER);
  const initdb = spawnSync(
    join(programs, "bin/initdb"),
    [
      "-D",
      data,
      "-U",
      "postgres",
      "-A",
      "scram-sha-256",
      "--pwfile",
      passwordFile,
      "-E",
      "UTF8",
      "--locale=C",
      "--no-sync",
    ],
    { encoding: "utf8", cwd: "/", ...user },
  );
  rmSync(passwordFile);
  if (initdb.status !== 0) throw failed("initdb", `${initdb.error?.message ?? ""}${initdb.stderr ?? ""}`);
  const settings = {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    shared_buffers: "64MB",
    fsync: "off",
  };
  const lines = Object.entries(settings).map(([key, value]) => `${key} = '${value}'\n`);
  appendFileSync(join(data, "postgresql.conf"), lines.join(""));
  for (let attempt = 1; ; attempt++) {
    const port = await pickPort();
    // A process group of its own: Ctrl-C is for us, who end the server in its turn.
    const child = spawn(join(programs, "bin/postgres"), ["-D", data, "-p", String(port)], {
      cwd: "/",
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
      ...user,
    });
    const abandon = () => child.kill("SIGQUIT");
    process.once("exit", abandon);
    try {
      await untilReady(child);
    } catch (error) {
      process.off("exit", abandon);
      if (attempt < PORT_ATTEMPTS && error instanceof ReplicatorError && PORT_TAKEN.test(error.message)) continue;
      child.kill("SIGKILL");
      throw error;
    }
    const stop = async () => {
      await stopServer(child, base);
      process.off("exit", abandon);
    };
    return { url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`, stop };
  }
}

/** The server's user must be able to read the programs; a checkout below a private home is copied. */
function reachableCopy(home: string, folder: string): string {
  for (let at = home; at !== dirname(at); at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) {
      const copy = join(folder, "programs");
      if (!existsSync(copy)) {
        cpSync(home, copy, { recursive: true, verbatimSymlinks: true });
        chmodSync(copy, 0o755);
      }
      return copy;
    }
  }
  return home;
}

async function untilReady(child: ChildProcess): Promise<void> {
  let log = "";
  await new Promise<void>((resolve, reject) => {
    const late = setTimeout(() => reject(failed("postgres", log)), START_TIMEOUT_MS);
    child.stderr?.on("data", (data: Buffer) => {
      log = (log + data.toString()).slice(-4_000);
      if (log.includes("ready to accept connections")) {
        clearTimeout(late);
        resolve();
      }
    });
    child.once("error", (error) => reject(failed("postgres", String(error))));
    child.once("exit", () => {
      clearTimeout(late);
      reject(failed("postgres", log));
    });
  });
}

async function stopServer(child: ChildProcess, base: string): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill("SIGQUIT");
    const timeout = new AbortController();
    await Promise.race([exited, systemClock.sleep(5_000, timeout.signal)]);
    timeout.abort();
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
  }
  rmSync(base, { recursive: true, force: true, maxRetries: 5 });
}

function failed(program: string, log: string): ReplicatorError {
  return new ReplicatorError({
    code: "demo.postgres_failed",
    message: `Could not start ${program} for the demo: ${log.trim().split("\n").slice(-4).join(" / ")}`,
    retry: "never",
    fault: "environment",
    remedy: "Set REPLICATOR_POSTGRES to the folder of another PostgreSQL, or TMPDIR to a folder with room",
  });
}

/** A port of loopback nobody listens on. */
export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => {
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", resolve);
  });
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return typeof address === "object" && address ? address.port : 0;
}
