/** A source that captures and a target that applies, joined without a broker: what the one captures the other is given. */
import { createSourceStore } from "../../adapters/postgres/source/store.ts";
import { silentLogger } from "../../src/core/logger.ts";
import type { ApplyOutcome } from "../../src/core/target_store.ts";
import { sharedPostgres } from "../servers/postgres.ts";
import { application, openTarget, script, type Target } from "./target_fixture.ts";

export interface SitesOptions {
  /** Run at both: tables, rows that are there already. The tables are put under replication after it. */
  readonly ddl: string;
  readonly tables: readonly string[];
  readonly capture?: "row" | "statement";
  /** frames: the default channel; events: a topic of their own. */
  readonly kind?: "frames" | "events";
  /** What each calls its stamp columns; by default version, updated_at, updated_by. */
  readonly stamps?: { readonly source?: StampColumns; readonly target?: StampColumns };
}

interface StampColumns {
  readonly version: string;
  readonly updated_at: string;
  readonly updated_by: string;
}

export interface Sites {
  readonly target: Target;
  /** At the source, as the application. */
  source(text: string): Promise<void>;
  /** At the target, as its administrator. */
  there(text: string): Promise<void>;
  /** Rows of a query at the target, values as text. */
  rows(query: string): Promise<readonly Readonly<Record<string, string | null>>[]>;
  /** The same at the source. */
  sourceRows(query: string): Promise<readonly Readonly<Record<string, string | null>>[]>;
  /** Applies all that was captured since, in one transaction. */
  carry(): Promise<ApplyOutcome>;
  /** What waits in the inbox: the error's code and message. */
  parked(): Promise<readonly { readonly code: string; readonly error: string }[]>;
  /** Tries everything in the inbox now, as when its next attempt is due. Returns how many are left. */
  retry(): Promise<number>;
  close(): Promise<void>;
}

const TOPIC = "own_channel";
const { signal } = new AbortController();

export async function openSites(options: SitesOptions): Promise<Sites> {
  const { ddl, tables, capture = "row", kind = "frames", stamps = {} } = options;
  const setup = (columns: StampColumns | undefined) =>
    tables
      .map((name) => {
        const how = JSON.stringify({ capture, ...(columns && { columns }) });
        return `SELECT public.setup_table_for_replication('${name}', '${how}')`;
      })
      .join(";");
  const app = await application(await sharedPostgres());
  await script(app, `SELECT "replicator".set_contour('active'); ${ddl}; ${setup(stamps.source)}`);
  const target = await openTarget(`${ddl}; ${setup(stamps.target)}`);
  const store = createSourceStore({
    database: { url: app.url, applicationName: "replicator_publisher" },
    contour: "active",
    logger: silentLogger,
  });
  await store.open(signal);
  const channels = [{ name: "changes", partitions: 1, tables: [] as string[] }];
  if (kind === "events") channels.push({ name: TOPIC, partitions: 1, tables: [...tables] });
  await store.setLayout(channels);
  const lease = await store.lease("cutter", "", "test", 600_000);
  if (!lease) throw new Error("The cutter's lease is somebody else's");

  async function carry(): Promise<ApplyOutcome> {
    const cut = await store.takeCut(lease as NonNullable<typeof lease>, 900_000);
    if (!cut) throw new Error("Nothing was captured");
    const batches = [];
    if (kind === "frames") {
      for await (const chunks of store.readChunks(cut, "changes", signal)) batches.push(target.feed.batch(chunks));
    } else {
      for await (const rows of store.readEvents(cut, TOPIC, signal)) {
        const events = rows.map((row, n) => ({
          sequence: n,
          table: row.table,
          operation: row.operation,
          body: row.body,
        }));
        batches.push(target.feed.batch([], events));
      }
    }
    return target.feed.groups([batches]);
  }

  return {
    target,
    source: (text) => script(app, text),
    there: (text) => script(target.db, text),
    rows: async (query) => (await target.db.query(query)).map((row) => ({ ...row })),
    sourceRows: async (query) => (await app.query(query)).map((row) => ({ ...row })),
    carry,
    async parked() {
      const rows = await target.db.query("SELECT error_code AS code, error FROM replicator.inbox ORDER BY id");
      return rows.map(({ code, error }) => ({ code: code ?? "", error: error ?? "" }));
    },
    async retry() {
      await script(target.db, "UPDATE replicator.inbox SET next_attempt_at = clock_timestamp()");
      // A process that has just started: what DDL has changed since is known to it.
      await (await target.another()).retryParked(1_000);
      const [row] = await target.db.query("SELECT count(*) AS n FROM replicator.inbox");
      return Number(row?.n);
    },
    async close() {
      await store.close();
      await app.close();
      await target.close();
    },
  };
}
