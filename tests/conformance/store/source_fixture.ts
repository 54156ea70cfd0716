/** A source database with our tables and two registered tables, and the few acts the source's tests are made of. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Connection, type Database, openDatabase } from "../../../adapters/postgres/connection.ts";
import { createSourceStore } from "../../../adapters/postgres/source/store.ts";
import type { Chunk, EventRow } from "../../../src/core/chunk.ts";
import type { Lease } from "../../../src/core/lease.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import type { Cut, SourceStore } from "../../../src/core/source_store.ts";

export const CONTOUR = "active";
export const FRAME_BYTES = 900_000;
/** Ids that sql/01 gives to the two tables, in this order. */
export const USERS = 1;
export const PAYMENTS = 2;

const TABLES_FILE = join(import.meta.dir, "../../../sql/01_create_tables.sql");
const signal = new AbortController().signal;

export interface Source {
  readonly url: string;
  /** As the application: writes the queue the way the triggers do. */
  readonly app: Database;
  /** Another replicator process on the same database. */
  store(rotateAfterMs?: number): Promise<SourceStore>;
  /** Inserts row-form queue rows with `{"id":n}` for n = first … last; in the connection's open transaction if there is one. */
  write(on: Pick<Connection, "execute">, first: number, last?: number): Promise<void>;
  close(): Promise<void>;
}

/** Opens the database at `url`, which must be empty. */
export async function makeSource(url: string): Promise<Source> {
  const app = openDatabase({ url, applicationName: "application", max: 40, logger: silentLogger });
  const stores: SourceStore[] = [];
  const setup = await app.reserve();
  await setup.script(readFileSync(TABLES_FILE, "utf8"));
  await setup.execute(`UPDATE "replicator".local SET contour = $1`, [CONTOUR]);
  await setup.script(`INSERT INTO "replicator".replicated_table (schema_name, table_name, relid, key_columns, stamp_columns) VALUES
    ('public', 'users', 0, '{id}', '{version,updated_at,updated_by}'),
    ('public', 'Pay "ments', 0, '{a,b}', '{version,changed,by}')`);
  setup.release();
  return {
    url,
    app,
    async store(rotateAfterMs) {
      const store = createSourceStore({
        database: { url, applicationName: "replicator_publisher" },
        contour: CONTOUR,
        logger: silentLogger,
        rotateAfterMs,
      });
      stores.push(store);
      await store.open(signal);
      return store;
    },
    async write(on, first, last = first) {
      await on.execute(
        `INSERT INTO "replicator".queue (table_id, operation, rows, data)
         SELECT ${USERS}, 'I', 1, '{"id":' || n || '}' FROM generate_series($1::int, $2::int) AS n`,
        [first, last],
      );
    },
    async close() {
      await Promise.all([...stores.map((store) => store.close()), app.close()]);
    },
  };
}

/** The cutter's lease, for a minute. */
export async function cutter(store: SourceStore, owner = "one"): Promise<Lease> {
  const lease = await store.lease("cutter", "", owner, 60_000);
  if (!lease) throw new Error("The cutter's lease is somebody else's");
  return lease;
}

/** A cut; fails when nothing is due. */
export async function mustCut(store: SourceStore, lease: Lease): Promise<Cut> {
  const cut = await store.takeCut(lease, FRAME_BYTES);
  if (!cut) throw new Error("No cut was due");
  return cut;
}

export async function chunksOf(store: SourceStore, cut: Cut, channel = "changes"): Promise<Chunk[]> {
  const all: Chunk[] = [];
  for await (const chunks of store.readChunks(cut, channel, signal)) all.push(...chunks);
  return all;
}

export async function eventsOf(store: SourceStore, cut: Cut, channel: string): Promise<EventRow[]> {
  const all: EventRow[] = [];
  for await (const events of store.readEvents(cut, channel, signal)) all.push(...events);
  return all;
}

/** The ids in the chunks' rows, in order. */
export function idsOf(chunks: readonly Chunk[]): number[] {
  return chunks.flatMap((chunk) => [...chunk.data.matchAll(/"id":(\d+)/g)].map((found) => Number(found[1])));
}

export async function cutIds(store: SourceStore, lease: Lease): Promise<number[]> {
  const cut = await store.takeCut(lease, FRAME_BYTES);
  return cut ? idsOf(await chunksOf(store, cut)) : [];
}
