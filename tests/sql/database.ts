/** A fresh database with our SQL objects, and what the tests of sql/ look at. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { ROOT } from "../../tools/cache.mjs";
import { DEFAULT_MAJOR, freshDatabase, type PostgresMajor, sharedPostgres } from "../servers/postgres.ts";

/** The files 00_master_setup.sql lists, in its order. */
export function setupFiles(): string[] {
  const master = readFileSync(join(ROOT, "sql", "00_master_setup.sql"), "utf8");
  return [...master.matchAll(/^\\ir (\S+)$/gm)].map(([, name = ""]) => join(ROOT, "sql", name));
}

export interface InstallOptions {
  readonly major?: PostgresMajor;
  readonly schema?: string;
  readonly contour?: string;
}

export interface Database {
  readonly url: string;
  readonly sql: postgres.Sql;
  /** Runs one text, as psql -c would, in one transaction. */
  run(text: string): Promise<void>;
  /** A connection as another role; ends with the database. */
  connect(options?: { user?: string; password?: string; applicationName?: string }): postgres.Sql;
  close(): Promise<void>;
}

/** What `replicator setup` does: the very same files by driver, in one transaction. */
export async function install(sql: postgres.Sql, schema = "replicator"): Promise<void> {
  const texts = setupFiles().map((file) => readFileSync(file, "utf8").replaceAll('"replicator"', `"${schema}"`));
  await sql.begin((tx) => tx.unsafe(texts.join("\n")).simple());
}

export async function freshSetup(options: InstallOptions = {}): Promise<Database> {
  const server = await sharedPostgres(options.major ?? DEFAULT_MAJOR);
  const url = await freshDatabase(server);
  const open: postgres.Sql[] = [];
  const connect: Database["connect"] = ({ user, password, applicationName } = {}) => {
    const target = new URL(url);
    const sql = postgres(user ? server.url(target.pathname.slice(1), user, password) : url, {
      max: 1,
      onnotice: () => {},
      connection: { application_name: applicationName ?? "application" },
    });
    open.push(sql);
    return sql;
  };
  const sql = connect();
  await install(sql, options.schema);
  await sql.unsafe(`SELECT "${options.schema ?? "replicator"}".set_contour('${options.contour ?? "alpha"}')`);
  return {
    url,
    sql,
    connect,
    async run(text) {
      await sql.unsafe(text).simple();
    },
    async close() {
      await Promise.all(open.map((each) => each.end({ timeout: 5 })));
    },
  };
}

/** The one column of a query, as text. */
export async function texts(sql: postgres.Sql, query: string): Promise<string[]> {
  return (await sql.unsafe<{ text: string }[]>(`SELECT x AS text FROM (${query}) q(x)`)).map(({ text }) => text);
}

export interface Captured {
  readonly operation: "I" | "U" | "D" | "T";
  /** The JSON text of the row, exactly as captured. */
  readonly text: string;
  readonly row: Readonly<Record<string, unknown>>;
  readonly old: Readonly<Record<string, unknown>> | null;
}

/** The changes captured of a table, in queue order, packed rows unpacked. */
export async function captured(sql: postgres.Sql, table: string, schema = "replicator"): Promise<Captured[]> {
  const rows = await sql.unsafe<{ operation: Captured["operation"]; rows: number; data: string; old: string | null }[]>(
    `SELECT q.operation::text, q.rows, q.data, q.old FROM "${schema}".queue q
       JOIN "${schema}".replicated_table t USING (table_id)
      WHERE t.relid = $1::text::regclass ORDER BY q.id`,
    [table],
  );
  return rows.flatMap(({ operation, rows: count, data, old }) => {
    const parsed: Record<string, unknown>[] = JSON.parse(`[${data}]`);
    const olds: (Record<string, unknown> | null)[] = old === null ? [] : JSON.parse(`[${old}]`);
    if (parsed.length !== count) throw new Error(`queue row says ${count} rows and holds ${parsed.length}`);
    return parsed.map((row, n) => ({ operation, text: count === 1 ? data : "", row, old: olds[n] ?? null }));
  });
}

interface Stamp {
  readonly version: number;
  readonly updated_at: string;
}
const later = (a: Stamp, b: Stamp) =>
  a.version !== b.version ? a.version > b.version : Date.parse(a.updated_at) >= Date.parse(b.updated_at);
const stampOf = (row: Readonly<Record<string, unknown>>): Stamp => ({
  version: Number(row.version),
  updated_at: String(row.updated_at),
});

/** Plays captured changes by stamp, never by position: what another contour would hold (I6). */
export function replay(changes: readonly Captured[], key: readonly string[]): Map<string, Record<string, unknown>> {
  const keyOf = (row: Readonly<Record<string, unknown>>) => JSON.stringify(key.map((name) => row[name]));
  const newest = new Map<string, Captured>();
  let floor: Stamp | undefined;
  for (const change of changes) {
    if (change.operation === "T") {
      if (!floor || later(stampOf(change.row), floor)) floor = stampOf(change.row);
      continue;
    }
    const known = newest.get(keyOf(change.row));
    if (!known || later(stampOf(change.row), stampOf(known.row))) newest.set(keyOf(change.row), change);
  }
  const alive = [...newest].filter(
    ([, { operation, row }]) => operation !== "D" && (!floor || later(stampOf(row), floor)),
  );
  return new Map(alive.map(([name, { row }]) => [name, { ...row }]));
}

/** The table as its own database holds it, in the shape of `replay`. */
export async function contents(sql: postgres.Sql, table: string, key: readonly string[]) {
  const rows = await sql.unsafe<{ line: string }[]>(`SELECT row_to_json(x.*)::text AS line FROM ${table} x`);
  const parsed: Record<string, unknown>[] = rows.map(({ line }) => JSON.parse(line));
  return new Map(parsed.map((row) => [JSON.stringify(key.map((name) => row[name])), row]));
}
