/** Runs the servers of a cluster in the foreground: started together, started again when one dies, stopped together. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { which } from "../cache.mjs";

export interface Server {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** What it logs when it takes clients. */
  readonly ready: RegExp;
}

const READY_EVERY_MS = 50;
const READY_TIMEOUT_MS = 120_000;
/** A server that died stays away for so long, as one does whose machine restarts. */
const RESTART_MS = 10_000;
/** Time to finish; what still runs then is killed. */
const STOP_MS = 20_000;

export class Supervisor {
  readonly #logs: string;
  readonly #say: (line: string) => void;
  readonly #children = new Map<string, ChildProcess>();
  readonly #stopping = new AbortController();

  /** @param logs folder of `<server>.log` */
  constructor(logs: string, say: (line: string) => void) {
    this.#logs = logs;
    this.#say = say;
    mkdirSync(logs, { recursive: true });
  }

  /** Resolves when every server takes clients. @throws Error with the end of the log of one that does not */
  async start(servers: readonly Server[]): Promise<void> {
    await Promise.all(servers.map((server) => this.#start(server)));
    for (const server of servers) this.#watch(server);
  }

  /** All of them, tidily. Twice is no error. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const running = [...this.#children.values()];
    for (const child of running) child.kill("SIGTERM");
    const ended = Promise.all(running.map(exited));
    await Promise.race([ended, sleep(STOP_MS, undefined, { ref: false })]);
    this.kill();
    await ended;
  }

  /** At once, for an end that can wait for nothing. */
  kill(): void {
    for (const child of this.#children.values()) child.kill("SIGKILL");
  }

  async #start(server: Server): Promise<void> {
    const file = join(this.#logs, `${server.name}.log`);
    const log = openSync(file, "a");
    const from = statSync(file).size;
    const [program, ...args] = endsWithUs([server.program, ...server.args]);
    const child = spawn(program, args, {
      env: { ...process.env, ...server.environment },
      stdio: ["ignore", log, log],
      // Ctrl+C is for us: we stop the servers in order.
      detached: true,
    });
    closeSync(log);
    this.#children.set(server.name, child);
    const deadline = performance.now() + READY_TIMEOUT_MS;
    const text = () => readFileSync(file, "utf8").slice(from);
    while (!server.ready.test(text())) {
      if (this.#stopping.signal.aborted) return;
      const ended = child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
      if (ended || performance.now() > deadline) {
        const problem = ended ? "ended while starting" : "did not become ready";
        throw new Error(`${server.name} ${problem}\n${text().split("\n").slice(-15).join("\n")}`);
      }
      await sleep(READY_EVERY_MS);
    }
  }

  #watch(server: Server): void {
    const child = this.#children.get(server.name);
    if (!child) return;
    const again = async () => {
      await exited(child);
      if (this.#stopping.signal.aborted) return;
      this.#say(
        `${server.name} has ended (${child.signalCode ?? child.exitCode}); starting it again in ${RESTART_MS / 1000} s`,
      );
      await sleep(RESTART_MS, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      if (this.#stopping.signal.aborted) return;
      try {
        await this.#start(server);
        this.#say(`${server.name} is back`);
      } catch (error) {
        this.#say(error instanceof Error ? error.message : String(error));
      }
      this.#watch(server);
    };
    void again();
  }
}

async function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  await new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
  });
}

/** On Linux the kernel ends the server when this process is killed in a way that runs no handler. */
function endsWithUs(command: readonly [string, ...string[]]): [string, ...string[]] {
  const setpriv = process.platform === "linux" ? which("setpriv") : undefined;
  return setpriv && existsSync(setpriv) ? [setpriv, "--pdeathsig", "KILL", "--", ...command] : [...command];
}
