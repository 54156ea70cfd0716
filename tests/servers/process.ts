/** One server process: started, awaited, signalled, and never left behind. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import { which } from "../../tools/cache.mjs";
import { until } from "../support/until.ts";
import { removeScratch } from "./scratch.ts";

const READY_EVERY_MS = 15;
const STOP_TIMEOUT_MS = 30_000;

export interface Launch {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly logFile: string;
  /** What the server logs when it takes connections. */
  readonly ready: RegExp;
  readonly cwd?: string;
  readonly env?: Record<string, string>;
  readonly uid?: number;
  readonly gid?: number;
  readonly timeoutMs?: number;
  /** Signal that ends the server at once but tidily: what it gets when this process dies. */
  readonly quit?: "SIGQUIT" | "SIGTERM" | "SIGKILL";
}

/** A running server process and its children. */
export class ServerProcess {
  readonly #child: ChildProcess;
  readonly #launch: Launch;
  readonly exited: Promise<void>;
  running = true;

  constructor(child: ChildProcess, launch: Launch) {
    this.#child = child;
    this.#launch = launch;
    this.exited = new Promise((resolve) => {
      const ended = () => {
        this.running = false;
        registry().delete(this);
        resolve();
      };
      child.once("exit", ended);
      child.once("error", ended);
    });
    registry().add(this);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** To the process itself. */
  signal(signal: NodeJS.Signals): void {
    if (this.running && this.pid > 0) sendSignal(this.pid, signal);
  }

  /** To the process and all it has started. PostgreSQL's backends are process groups of their own, hence the walk. */
  signalAll(signal: NodeJS.Signals): void {
    if (!this.running || this.pid === 0) return;
    // Stopped first, it can neither replace a child that dies nor tell the others to end.
    if (signal !== "SIGCONT") sendSignal(this.pid, "SIGSTOP");
    for (const pid of [...descendants(this.pid), this.pid]) sendSignal(pid, signal);
  }

  /** Signals, and waits for the end. @throws Error when it does not end */
  async end(signal: NodeJS.Signals): Promise<void> {
    if (!this.running) return;
    const all = signal === "SIGKILL";
    const children = all ? descendants(this.pid) : [];
    if (all) this.signalAll(signal);
    else this.signal(signal);
    const late = Symbol();
    const timer = Promise.withResolvers<symbol>();
    const timeout = setTimeout(() => timer.resolve(late), STOP_TIMEOUT_MS);
    const outcome = await Promise.race([this.exited, timer.promise]);
    clearTimeout(timeout);
    if (outcome !== late) {
      // Killed at the same time, not ended at the same time: PostgreSQL does not start while one holds the shared memory.
      await until(`the children of ${this.#launch.name} have ended`, () => !children.some(isAlive), STOP_TIMEOUT_MS);
      return;
    }
    this.signalAll("SIGKILL");
    await this.exited;
    throw new Error(
      `${this.#launch.name} did not end ${STOP_TIMEOUT_MS} ms after ${signal}\n${tail(this.#launch.logFile)}`,
    );
  }

  /** Without a tidy shutdown: what it has stored goes too. */
  async endAtOnce(): Promise<void> {
    this.signalAll("SIGCONT");
    await this.end(this.#launch.quit ?? "SIGKILL");
  }

  /** What it gets when this process ends without having stopped it. */
  abandon(): void {
    const quit = this.#launch.quit ?? "SIGKILL";
    if (quit === "SIGKILL") this.signalAll(quit);
    else {
      this.signalAll("SIGCONT");
      this.signal(quit);
    }
  }
}

/**
 * Starts a server and resolves when it has logged that it is ready.
 * @throws Error with the end of its log when it ends or is not ready in time
 */
export async function launch(options: Launch): Promise<ServerProcess> {
  watchForEnd();
  const log = openSync(options.logFile, "a");
  const from = statSync(options.logFile).size;
  const [program, args] = boundToUs(options);
  const child = spawn(program, args, {
    cwd: options.cwd ?? "/",
    env: { ...process.env, ...options.env },
    stdio: ["ignore", log, log],
    detached: true,
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
  });
  closeSync(log);
  // A script that is done ends, and its servers with it.
  child.unref();
  const server = new ServerProcess(child, options);
  const deadline = performance.now() + (options.timeoutMs ?? 30_000);
  while (!options.ready.test(readFileSync(options.logFile, "utf8").slice(from))) {
    if (!server.running) throw new Error(`${options.name} ended while starting\n${tail(options.logFile)}`);
    if (performance.now() > deadline) {
      await server.end("SIGKILL");
      throw new Error(`${options.name} did not become ready\n${tail(options.logFile)}`);
    }
    await Bun.sleep(READY_EVERY_MS);
  }
  return server;
}

/** On Linux the kernel ends the server when this process is killed in a way that runs no handler. */
function boundToUs({ program, args, quit = "SIGKILL" }: Launch): [string, string[]] {
  const setpriv = process.platform === "linux" ? which("setpriv") : undefined;
  return setpriv ? [setpriv, ["--pdeathsig", quit.slice(3), "--", program, ...args]] : [program, [...args]];
}

function tail(file: string): string {
  return readFileSync(file, "utf8").split("\n").slice(-30).join("\n");
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** All processes below one, the deepest last. */
function descendants(pid: number): number[] {
  const parents = parentOfAll();
  const found: number[] = [];
  const open = [pid];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    for (const [child, parent] of parents) {
      if (parent !== at) continue;
      found.push(child);
      open.push(child);
    }
  }
  return found;
}

function parentOfAll(): [pid: number, parent: number][] {
  if (process.platform !== "linux") {
    const { stdout } = spawnSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" });
    return stdout
      .trim()
      .split("\n")
      .map((line) => line.trim().split(/\s+/).map(Number) as [number, number]);
  }
  const found: [number, number][] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      // "pid (comm) state ppid …", and comm may hold anything, so count from its closing bracket.
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      found.push([Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1])]);
    } catch {
      // It ended meanwhile.
    }
  }
  return found;
}

interface Shared {
  replicatorServers?: Set<ServerProcess>;
}

/** On globalThis: a test runner may load a module more than once, and there is one list of what has to end. */
function registry(): Set<ServerProcess> {
  const shared = globalThis as Shared;
  shared.replicatorServers ??= new Set();
  return shared.replicatorServers;
}

let watching = false;

function watchForEnd(): void {
  if (watching) return;
  watching = true;
  process.once("exit", endAll);
  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    process.once(signal, () => process.exit(code));
  }
}

/** Ends every server of this process that still runs and removes all their data. */
export async function endAllServers(): Promise<void> {
  await Promise.allSettled([...registry()].map((server) => server.endAtOnce()));
  removeScratch();
}

/** Synchronous: nothing else can be done in an exit handler. */
function endAll(): void {
  const servers = [...registry()];
  for (const server of servers) server.abandon();
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const deadline = performance.now() + 3_000;
  while (servers.some(({ pid }) => isAlive(pid)) && performance.now() < deadline) Atomics.wait(pause, 0, 0, 10);
  for (const server of servers) if (isAlive(server.pid)) server.signalAll("SIGKILL");
  removeScratch();
}

/** A child that has ended and was not yet waited for still has its number, so its state is looked at. */
function isAlive(pid: number): boolean {
  try {
    if (process.platform !== "linux") return process.kill(pid, 0);
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2)[0] !== "Z";
  } catch {
    return false;
  }
}
