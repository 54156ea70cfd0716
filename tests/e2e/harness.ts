/** Two or more contours of the real program over real servers: child processes, as an operator runs them. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres, { type Sql } from "postgres";
import { stringify } from "yaml";
import { until } from "../support/until.ts";

const root = join(import.meta.dir, "../..");

export type BrokerConfig =
  | { readonly broker: "kafka"; readonly kafka: Record<string, unknown> }
  | { readonly broker: "nats"; readonly nats: Record<string, unknown> }
  /** Direct mode. */
  | { readonly target: Record<string, unknown> };

export interface TableConfig {
  readonly name: string;
  readonly topic?: string;
  readonly [option: string]: unknown;
}

export interface ContourOptions {
  readonly name: string;
  /** What the test connects with. */
  readonly url: string;
  /** What the replicator connects with, where that differs. */
  readonly configUrl?: string;
  readonly broker: BrokerConfig;
  readonly from: readonly string[];
  readonly tables: readonly TableConfig[];
  /** Merged over the rest of the configuration; of `service` only the keys it has. */
  readonly extra?: Record<string, unknown>;
}

/** One contour: its database, its configuration, and the replicator processes started for it. */
export class Contour {
  readonly name: string;
  readonly url: string;
  readonly sql: Sql;
  readonly configFile: string;
  readonly tables: readonly TableConfig[];
  readonly #directory: string;
  readonly #config: Record<string, unknown>;
  readonly #processes = new Set<Replicator>();

  constructor(options: ContourOptions) {
    this.name = options.name;
    this.url = options.url;
    this.tables = options.tables;
    this.sql = postgres(options.url, { max: 4, onnotice: () => undefined });
    this.#directory = mkdtempSync(join(tmpdir(), `replicator-${options.name}-`));
    this.configFile = join(this.#directory, "replicator.yaml");
    const { service, ...extra } = options.extra ?? {};
    this.#config = {
      service: { contour: options.name, ...(service as object | undefined) },
      database: { url: options.configUrl ?? options.url },
      ...options.broker,
      critical_tables: options.tables,
      ...("target" in options.broker ? {} : { consumer: { from: options.from } }),
      ...extra,
    };
    writeFileSync(this.configFile, stringify(this.#config));
  }

  /** Writes the configuration again, changed. */
  reconfigure(change: (config: Record<string, unknown>) => void): void {
    change(this.#config);
    writeFileSync(this.configFile, stringify(this.#config));
  }

  /** Runs a command of the program to its end. */
  async command(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    return runProgram([...args, "--config", this.configFile]);
  }

  /** `setup` and `tables add` as an operator would. */
  async prepare(): Promise<void> {
    for (const args of [["setup"], ["tables", "add"]]) {
      const { code, stderr, stdout } = await this.command(...args);
      if (code !== 0) throw new Error(`replicator ${args.join(" ")} ended with ${code}:\n${stderr}${stdout}`);
    }
  }

  /** Starts a replicator and waits until it is ready. */
  async start(role = "all", ready = true): Promise<Replicator> {
    const replicator = new Replicator(
      this,
      role,
      await freePort(),
      join(this.#directory, `${crypto.randomUUID()}.log`),
    );
    this.#processes.add(replicator);
    if (ready) await replicator.ready();
    return replicator;
  }

  /** The ends of its processes' logs, for the message of a test that fails. */
  logs(): string {
    return [...this.#processes]
      .map((replicator) => `${this.name}, ${replicator.pid}:\n${replicator.log().split("\n").slice(-25).join("\n")}`)
      .join("\n");
  }

  async close(): Promise<void> {
    await Promise.all([...this.#processes].map((replicator) => replicator.stop()));
    await this.sql.end({ timeout: 2 });
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export class Replicator {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #log: string;
  readonly #exited: Promise<number>;
  exitCode: number | null = null;

  constructor(contour: Contour, role: string, port: number, log: string) {
    this.port = port;
    this.#log = log;
    const [command, ...first] = program();
    this.#child = spawn(
      "/bin/sh",
      [
        "-c",
        'exec "$@" 2>"$0"',
        log,
        command as string,
        ...first,
        "run",
        "--config",
        contour.configFile,
        "--role",
        role,
      ],
      { stdio: "ignore", cwd: workingDirectory(), env: { ...process.env, API_PORT: String(port), NO_COLOR: "1" } },
    );
    this.#exited = new Promise((resolve) => {
      this.#child.on("exit", (code, signal) => {
        this.exitCode = code ?? 128 + (signal === "SIGKILL" ? 9 : 15);
        resolve(this.exitCode);
      });
    });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  log(): string {
    return readFileSync(this.#log, "utf8");
  }

  async get(path: string): Promise<{ status: number; body: Record<string, unknown> }> {
    const response = await fetch(`http://127.0.0.1:${this.port}${path}`, { signal: AbortSignal.timeout(5_000) });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  }

  async ready(): Promise<void> {
    await until(
      "the replicator is ready",
      async () => {
        if (this.exitCode !== null) throw new Error(`The replicator ended with ${this.exitCode}:\n${this.log()}`);
        return (await this.get("/ready").catch(() => ({ status: 0 }))).status === 200;
      },
      30_000,
    );
  }

  /** SIGTERM and the exit code. */
  async stop(): Promise<number> {
    if (this.exitCode === null) this.#child.kill("SIGTERM");
    return await this.#exited;
  }

  /** kill -9. */
  async kill(): Promise<void> {
    if (this.exitCode === null) this.#child.kill("SIGKILL");
    await this.#exited;
  }

  signal(name: NodeJS.Signals): void {
    if (this.exitCode === null) this.#child.kill(name);
  }

  exited(): Promise<number> {
    return this.#exited;
  }

  /** Peak resident memory in MB (Linux). */
  peakMegabytes(): number {
    const match = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"));
    return Number(match?.[1] ?? 0) / 1024;
  }
}

/** The program under test: the compiled binary when REPLICATOR_BINARY names it, else the sources under Bun. */
function program(): string[] {
  const binary = process.env.REPLICATOR_BINARY;
  return binary ? [binary] : [process.execPath, join(root, "src/main.ts")];
}

function workingDirectory(): string {
  return process.env.REPLICATOR_CWD ?? root;
}

export async function runProgram(args: readonly string[], env: Record<string, string> = {}) {
  const [command, ...first] = program();
  const child = spawn(command as string, [...first, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    cwd: workingDirectory(),
    env: { ...process.env, NO_COLOR: "1", ...env },
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (data) => (stdout += data));
  child.stderr.on("data", (data) => (stderr += data));
  const code = await new Promise<number>((resolve) => child.on("close", (status) => resolve(status ?? 1)));
  return { code, stdout, stderr };
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address ? address.port : 0;
}

/** What a table holds, as PostgreSQL text: equal strings are equal tables. */
export async function contents(sql: Sql, table: string, order: string): Promise<string> {
  const [row] = await sql.unsafe(
    `SELECT count(*) || ' ' || coalesce(md5(string_agg((t.*)::text, E'\\n' ORDER BY ${order})), '') AS digest FROM ${table} t`,
  );
  return String(row?.digest);
}

async function rowCount(sql: Sql, table: string): Promise<string> {
  const [row] = await sql.unsafe(`SELECT count(*)::text AS rows FROM ${table}`);
  return `${row?.rows} rows`;
}

/** Waits until the tables hold the same everywhere. */
export async function untilEqual(
  contours: readonly Contour[],
  tables: Record<string, string>,
  timeoutMs = 60_000,
): Promise<void> {
  for (const [table, order] of Object.entries(tables)) {
    let seen: string[] = [];
    await until(
      `${table} is equal at ${contours.map(({ name }) => name).join(" and ")}`,
      async () => {
        // Counting is cheap; hashes of a large table are not, so they are taken when the counts agree.
        seen = await Promise.all(contours.map(({ sql }) => rowCount(sql, table)));
        if (seen.some((count) => count !== seen[0])) return seen.join(" | ");
        seen = await Promise.all(contours.map(({ sql }) => contents(sql, table, order)));
        return seen.every((digest) => digest === seen[0]) ? true : seen.join(" | ");
      },
      timeoutMs,
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${contours.map((contour) => contour.logs()).join("\n")}`);
    });
  }
}
