/** Direct mode: a source and a target database, and the replicator between them. */
import postgres, { type Sql } from "postgres";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { until } from "../support/until.ts";
import { Contour, contents, type TableConfig } from "./harness.ts";

export interface DirectOptions {
  /** Run at both databases before setup. */
  readonly ddl: string;
  /** Default: none is named, `tables add` is then the test's. */
  readonly tables?: readonly TableConfig[];
  /** The tests' own addresses; databases of the shared server when left out. */
  readonly sourceUrl?: string;
  readonly targetUrl?: string;
  /** The replicator's addresses, where they differ. */
  readonly configSource?: string;
  readonly configTarget?: string;
  readonly extra?: Record<string, unknown>;
}

export interface DirectPair {
  /** With the source's `sql`, and the replicator's processes. */
  readonly contour: Contour;
  readonly source: Sql;
  readonly target: Sql;
  /** Waits until the tables hold the same on both sides. */
  equal(tables: Record<string, string>, timeoutMs?: number): Promise<void>;
  close(): Promise<void>;
}

let serial = 0;

/** Set up, its tables added, not started. */
export async function openDirect(options: DirectOptions): Promise<DirectPair> {
  const server = await sharedPostgres();
  const sourceUrl = options.sourceUrl ?? (await freshDatabase(server));
  const targetUrl = options.targetUrl ?? (await freshDatabase(server));
  const target = postgres(targetUrl, { max: 4, onnotice: () => undefined });
  const contour = new Contour({
    name: `primary-${process.pid.toString(36)}-${serial++}`,
    url: sourceUrl,
    ...(options.configSource ? { configUrl: options.configSource } : {}),
    broker: { target: { url: options.configTarget ?? targetUrl } },
    from: [],
    tables: options.tables ?? [],
    ...(options.extra ? { extra: options.extra } : {}),
  });
  const source = contour.sql;
  await Promise.all([source, target].map((sql) => sql.unsafe(options.ddl)));
  if (options.tables) await contour.prepare();
  return {
    contour,
    source,
    target,
    equal: async (tables, timeoutMs = 60_000) => {
      for (const [table, order] of Object.entries(tables)) {
        const same = async () => {
          const [here, there] = await Promise.all([source, target].map((sql) => contents(sql, table, order)));
          return here === there || `${here} | ${there}`;
        };
        await until(`${table} is equal at source and target`, same, timeoutMs).catch((error: unknown) => {
          throw new Error(`${String(error)}\n${contour.logs()}`);
        });
      }
    },
    close: async () => {
      await contour.close();
      await target.end({ timeout: 2 });
    },
  };
}
