/** A database that is applied to, and a source that exists only as chunks: for tests of the target store. */

import { installObjects } from "../../adapters/postgres/admin/setup.ts";
import type { Connection, Database } from "../../adapters/postgres/connection.ts";
import { openDatabase } from "../../adapters/postgres/connection.ts";
import { createTargetStore, type TargetStoreOptions } from "../../adapters/postgres/target/store.ts";
import type { Chunk, Operation } from "../../src/core/chunk.ts";
import type { Lease } from "../../src/core/lease.ts";
import { silentLogger } from "../../src/core/logger.ts";
import type {
  ApplyBatch,
  ApplyEvent,
  ApplyOutcome,
  LedgerKey,
  LedgerPosition,
  TargetStore,
} from "../../src/core/target_store.ts";
import { freshDatabase, type PostgresServer, sharedPostgres } from "../servers/postgres.ts";

export type Mode = "replica" | "origin";
export const MODES: readonly Mode[] = ["replica", "origin"];

/** Databases with the objects installed, one per server: fresh ones are copies of it. */
const prepared = new Map<string, Promise<string>>();
let copies = 0;

/** A fresh database with our objects, as an application's session sees it: captured, unlike the consumer's. */
export async function application(server: PostgresServer, ddl = ""): Promise<Database & { url: string }> {
  const name = `target_${process.pid}_${++copies}`;
  const template = await (prepared.get(server.url()) ?? prepare(server));
  const maintenance = openDatabase({ url: server.url(), applicationName: "application", logger: silentLogger });
  await maintenance.execute(`CREATE DATABASE ${name} TEMPLATE ${template}`);
  await maintenance.close();
  const db = connect(server.url(name));
  if (ddl) await script(db, ddl);
  return Object.assign(db, { url: server.url(name) });
}

function prepare(server: PostgresServer): Promise<string> {
  const preparing = (async () => {
    const url = await freshDatabase(server);
    const db = connect(url);
    const columns = { version: "version", updated_at: "updated_at", updated_by: "updated_by" };
    await installObjects(db, { contour: "passive", compatSchema: "public", columns }, AbortSignal.timeout(60_000));
    await db.close();
    return new URL(url).pathname.slice(1);
  })();
  prepared.set(server.url(), preparing);
  return preparing;
}

export function connect(url: string): Database {
  const sessionSettings = { search_path: "public" };
  return openDatabase({ url, applicationName: "application", logger: silentLogger, max: 4, sessionSettings });
}

export async function script(db: Database, text: string): Promise<void> {
  const connection = await db.reserve();
  try {
    await connection.script(text);
  } finally {
    connection.release();
  }
}

export function setUp(...tables: readonly string[]): string {
  return tables
    .map((table) => `SELECT public.setup_table_for_replication('${table.replaceAll("'", "''")}');`)
    .join("\n");
}

export interface Target {
  readonly db: Database & { url: string };
  readonly store: TargetStore;
  readonly feed: Feed;
  /** A second store over the same database. */
  another(options?: Partial<TargetStoreOptions>): Promise<TargetStore>;
  /** All rows of a table as text, in order. */
  rows(table: string): Promise<readonly string[]>;
  column(query: string): Promise<readonly (string | null)[]>;
  close(): Promise<void>;
}

/** A fresh database with tables made and set up by `ddl`, and an open store on it. */
export async function openTarget(
  ddl: string,
  mode: TargetStoreOptions["session"] = "auto",
  options: Partial<TargetStoreOptions> & { readonly server?: PostgresServer } = {},
): Promise<Target> {
  const server = options.server ?? (await sharedPostgres());
  const db = await application(server, ddl);
  const stores: TargetStore[] = [];
  const another = async (more: Partial<TargetStoreOptions> = {}) => {
    const store = createTargetStore({
      tables: null,
      session: mode,
      maxSkewMs: 3_600_000,
      logger: silentLogger,
      ...options,
      ...more,
      database: { url: db.url, applicationName: "test", ...options.database },
    });
    stores.push(store);
    await store.open(AbortSignal.timeout(30_000));
    return store;
  };
  const store = await another();
  const column = async (query: string) => (await db.query(query)).map((row) => Object.values(row)[0] ?? null);
  return {
    db,
    store,
    feed: new Feed(store),
    another,
    column,
    async rows(table) {
      return (await column(`SELECT ROW(a_row.*)::text COLLATE "C" AS line FROM ${table} a_row ORDER BY 1`)) as string[];
    },
    async close() {
      for (const opened of stores) await opened.close();
      await db.close();
    },
  };
}

/** One channel of a contour on its way into a store: numbers its batches and keeps its lease and position. */
export class Feed {
  readonly store: TargetStore;
  readonly key: LedgerKey;
  position: LedgerPosition | null = null;
  #lease: Lease | null = null;
  #sequence = 0;
  #name: string;

  constructor(store: TargetStore, source = "active", channel = "changes") {
    this.store = store;
    this.key = { source, channel, partition: 0 };
    this.#name = `replicator.${source}.${channel}`;
  }

  batch(chunks: readonly Chunk[], events: readonly ApplyEvent[] = []): ApplyBatch {
    const sequence = ++this.#sequence;
    const next = { identity: "log", offset: String(sequence + 1) };
    const kind = events.length > 0 ? "events" : "frames";
    return { epoch: 1, sequence, cutNo: sequence, endsCut: true, next, kind, chunks, events };
  }

  async begin() {
    this.#lease ??= await this.store.lease(this.#name, 0, "tester", 600_000);
    if (!this.#lease) throw new Error("the lease is held by somebody else");
    return this.store.begin(this.key, this.position, this.#name, this.#lease);
  }

  /** All chunks as one group, in one batch each. */
  apply(...chunks: readonly Chunk[]): Promise<ApplyOutcome> {
    return this.groups([chunks.map((chunk) => this.batch([chunk]))]);
  }

  /** One target transaction, one apply() per group. */
  async groups(groups: readonly (readonly ApplyBatch[])[]): Promise<ApplyOutcome> {
    const transaction = await this.begin();
    try {
      for (const group of groups) await transaction.apply(group);
      const outcome = await transaction.commit();
      const last = groups.flat().at(-1);
      if (last) this.position = { epoch: 1, sequence: last.sequence, cutNo: last.cutNo, position: last.next };
      return outcome;
    } finally {
      await transaction.rollback();
    }
  }
}

let queueId = 1_000;

/** A chunk of ready lines. `rows` are JSON objects as text. */
export function chunk(table: string, operation: Operation, rows: readonly string[], more: Partial<Chunk> = {}): Chunk {
  const [schema, name] = table.includes(".") ? (table.split(".", 2) as [string, string]) : ["public", table];
  queueId += 1_000_000;
  return {
    schema,
    table: name,
    operation,
    transaction: "700",
    first_queue_id: String(queueId),
    captured_at: "2026-11-21T10:00:00.123456Z",
    rows: rows.length,
    key: ["id"],
    stamp: ["version", "updated_at", "updated_by"],
    data: rows.join(",\n"),
    old: null,
    ...more,
  };
}

/** `{"id":1,…,"version":2,…}`: values are given as JSON text or plain values without loss. */
export function row(
  version: number,
  values: Record<string, unknown>,
  stamp: { at?: string; by?: string } = {},
): string {
  const members = Object.entries(values).map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  members.push(`"version":${version}`);
  members.push(`"updated_at":${JSON.stringify(stamp.at ?? "2026-11-21T10:00:00+00:00")}`);
  members.push(`"updated_by":${JSON.stringify(stamp.by ?? "active")}`);
  return `{${members.join(",")}}`;
}

export type { Chunk, Connection };
