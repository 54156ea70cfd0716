/** Real PostgreSQL servers, each with its own data directory and port. */
import { spawnSync } from "node:child_process";
import { appendFileSync, chmodSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { postgresHome } from "../../tools/cache.mjs";
import { asServerUser, freePort, giveToServer, reachable, scratch } from "./scratch.ts";
import { type TestServer, testServer } from "./server.ts";

export type PostgresMajor = 14 | 15 | 16 | 17 | 18;
export const MAJORS: readonly PostgresMajor[] = [14, 15, 16, 17, 18];
export const DEFAULT_MAJOR: PostgresMajor = 15;

const PASSWORD = "postgres-of-the-tests";
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  wal_level: "logical",
  max_connections: "200",
  max_prepared_transactions: "10",
  shared_buffers: "64MB",
  max_wal_size: "1GB",
  log_min_messages: "warning",
  lc_messages: "C",
};

export interface PostgresOptions {
  readonly major?: PostgresMajor;
  /** Lines of postgresql.conf, over the defaults above. `fsync` is on unless set here. */
  readonly settings?: Readonly<Record<string, string>>;
  /** PEM texts. Turns TLS on; `hba` decides who must use it. */
  readonly ssl?: { readonly ca: string; readonly cert: string; readonly key: string };
  /** Lines of pg_hba.conf before the default `host all all all scram-sha-256`. */
  readonly hba?: readonly string[];
}

export interface PostgresServer extends TestServer {
  readonly major: PostgresMajor;
  readonly port: number;
  readonly host: string;
  readonly dataDir: string;
  /** Folder with bin/initdb, bin/pg_ctl and bin/postgres. */
  readonly binaries: string;
  /** Of the superuser when no other user is named. */
  url(database?: string, user?: string, password?: string): string;
  /** Makes a database (of a name of its own when none is given) and returns its URL. */
  createDatabase(name?: string): Promise<string>;
  /** fast: SIGINT; immediate: SIGQUIT, as a crash; kill: as kill(). */
  stop(mode?: "fast" | "immediate" | "kill"): Promise<void>;
}

/** A started server of its own. It ends with this process if nobody stops it. */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const major = options.major ?? DEFAULT_MAJOR;
  const folder = scratch(`postgres-${major}`);
  giveToServer(folder);
  const dataDir = join(folder, "data");
  run("cp", ["-Rp", template(major), dataDir]);
  const port = await freePort();
  configure(dataDir, port, options);
  let serial = 0;
  const program = testServer({
    name: `PostgreSQL ${major}`,
    program: join(home(major), "bin", "postgres"),
    args: ["-D", dataDir],
    folder,
    ready: /database system is ready to accept (read-only )?connections/,
    quit: "SIGQUIT",
    timeoutMs: 60_000,
    ...asServerUser,
  });

  const server: PostgresServer = {
    ...program,
    major,
    port,
    host: "127.0.0.1",
    dataDir,
    binaries: home(major),
    url: (database = "postgres", user = "postgres", password = PASSWORD) =>
      `postgres://${encodeURIComponent(user)}:${encodeURIComponent(password)}@127.0.0.1:${port}/${encodeURIComponent(database)}`,
    async createDatabase(name = `test_${process.pid}_${++serial}`) {
      const sql = postgres(server.url(), { max: 1, onnotice: () => {} });
      try {
        await sql`CREATE DATABASE ${sql(name)}`;
      } finally {
        await sql.end();
      }
      return server.url(name);
    },
    stop: (mode = "fast") => program.end(({ fast: "SIGINT", immediate: "SIGQUIT", kill: "SIGKILL" } as const)[mode]),
  };
  await server.start();
  return server;
}

function configure(dataDir: string, port: number, options: PostgresOptions): void {
  const settings: Record<string, string> = { ...SETTINGS, port: String(port) };
  if (options.ssl) {
    const files = { ssl_ca_file: options.ssl.ca, ssl_cert_file: options.ssl.cert, ssl_key_file: options.ssl.key };
    for (const [setting, text] of Object.entries(files)) {
      const file = join(dataDir, `${setting}.pem`);
      writeFileSync(file, text, { mode: 0o600 });
      giveToServer(file);
      settings[setting] = file;
    }
    settings.ssl = "on";
  }
  const lines = Object.entries({ ...settings, ...options.settings }).map(
    ([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`,
  );
  appendFileSync(join(dataDir, "postgresql.conf"), lines.join(""));
  const hba = [...(options.hba ?? []), "host all all all scram-sha-256", "host replication all all scram-sha-256"];
  writeFileSync(join(dataDir, "pg_hba.conf"), `${hba.join("\n")}\n`);
}

const homes = new Map<PostgresMajor, string>();
const templates = new Map<PostgresMajor, string>();

/** The programs, copied to a place the server's user can reach when the checkout is not one. */
function home(major: PostgresMajor): string {
  const known = homes.get(major);
  if (known) return known;
  let folder: string = postgresHome(major);
  if (!existsSync(folder))
    throw new Error(`PostgreSQL ${major} is not in .cache: node tools/bootstrap.mjs postgres:${major}`);
  if (!reachable(folder)) {
    const copy = join(scratch(`programs-${major}`), "postgres");
    run("cp", ["-R", folder, copy]);
    chmodSync(copy, 0o755);
    folder = copy;
  }
  homes.set(major, folder);
  return folder;
}

/** initdb takes a second, a copy of what it made does not. */
function template(major: PostgresMajor): string {
  const known = templates.get(major);
  if (known) return known;
  const folder = scratch(`template-${major}`);
  const passwordFile = join(folder, "password");
  writeFileSync(passwordFile, PASSWORD);
  giveToServer(folder, true);
  const dataDir = join(folder, "data");
  const how = [
    "-A",
    "scram-sha-256",
    "--pwfile",
    passwordFile,
    "-E",
    "UTF8",
    "--locale=C",
    "--no-sync",
    "-U",
    "postgres",
  ];
  run(join(home(major), "bin", "initdb"), ["-D", dataDir, ...how], asServerUser);
  rmSync(passwordFile);
  templates.set(major, dataDir);
  return dataDir;
}

function run(program: string, args: readonly string[], user: { uid?: number; gid?: number } = {}): void {
  const done = spawnSync(program, [...args], { encoding: "utf8", cwd: "/", ...user });
  if (done.status !== 0) throw new Error(`${program} failed: ${done.error?.message ?? `${done.stdout}${done.stderr}`}`);
}

const shared = new Map<PostgresMajor, Promise<PostgresServer>>();

/** One server per major for all tests of this process. Do not stop it; take a server of your own for that. */
export function sharedPostgres(major: PostgresMajor = DEFAULT_MAJOR): Promise<PostgresServer> {
  const known = shared.get(major);
  if (known) return known;
  const started = startPostgres({ major });
  shared.set(major, started);
  return started;
}

/** A new empty database; its URL. */
export function freshDatabase(server: PostgresServer): Promise<string> {
  return server.createDatabase();
}
