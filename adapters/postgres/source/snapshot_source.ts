/** The Snapshot port over PostgreSQL: a thin layer over the functions of sql/02i_snapshot.sql. */
import { ReplicatorError } from "../../../src/core/errors.ts";
import type {
  BeginOptions,
  Pressure,
  SnapshotChunk,
  SnapshotHolder,
  SnapshotSource,
  SnapshotStatus,
  SnapshotTable,
} from "../../../src/core/snapshot.ts";
import { parseTableName } from "../../../src/core/table_name.ts";
import { CONTROL_TIMEOUT_MS, type Database, textArray } from "../connection.ts";
import { isServerError, sqlState } from "../errors.ts";
import { backlogWithBytes } from "./backlog.ts";

/** A chunk of large rows on a busy server; rows are counted with this deadline too. */
const CHUNK_TIMEOUT_MS = 300_000;

const time = (column: string) =>
  `to_char(s.${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS ${column}`;
const PROGRESS = `
SELECT s.table_id, CASE WHEN t.schema_name = 'public' THEN '' ELSE quote_ident(t.schema_name) || '.' END || quote_ident(t.table_name) AS "table",
       "replicator".channel_of((SELECT max(layout_version) FROM "replicator".layout), s.table_id) AS channel,
       s.state, s.rows_done, s.rows_estimated, s.bytes_done, s.requested_by, ${time("started_at")}, ${time("finished_at")}`;
const FROM = `
  FROM "replicator".snapshot s JOIN "replicator".replicated_table t ON t.table_id = s.table_id AND t.removed_at IS NULL`;

const STATUS = `${PROGRESS}${FROM} ORDER BY s.place, s.table_id`;
const TABLES = `${PROGRESS}, s.last_xid IS NULL OR "replicator".published_at(s.last_xid, s.table_id) IS NOT NULL AS confirmed,
       coalesce(o.circle, false) AS circle${FROM}
  LEFT JOIN "replicator".snapshot_order() o ON o.table_id = s.table_id
 WHERE s.table_id = ANY ($1::text::int[]) ORDER BY s.place, s.table_id`;
const REPLICATED = `SELECT table_id, schema_name, table_name FROM "replicator".replicated_table WHERE removed_at IS NULL`;
const HOLDER = `SELECT owner, expires_at::text AS until, expires_at <= clock_timestamp() AS expired FROM "replicator".lease WHERE kind = 'snapshot'`;
const HOLD = `SELECT "replicator".hold_snapshot($1, $2::text::int * interval '1 ms') AS held`;
const BEGIN = `SELECT "replicator".begin_snapshot($1::text::int[], $2, $3::text::boolean, $4::text::boolean)`;
const STEP = `SELECT sent, bytes, ended, begun_anew FROM "replicator".step_snapshot($1::text::int, $2, $3::text::int * interval '1 ms', $4::text::int, $5::text::bigint)`;
const PUBLISHING = `SELECT EXISTS (SELECT FROM "replicator".lease WHERE kind = 'cutter' AND expires_at > clock_timestamp()) AS publishing`;

type StatusRow = Readonly<
  Record<
    "table_id" | "table" | "channel" | "state" | "rows_done" | "rows_estimated" | "bytes_done" | "requested_by",
    string
  >
> &
  Readonly<Record<"started_at" | "finished_at", string | null>>;

export function createSnapshotSource(db: Database): SnapshotSource {
  return new PostgresSnapshotSource(db);
}

/** The last snapshot of each table, or the one under way, for /status. */
export async function snapshotStatus(db: Database): Promise<readonly SnapshotStatus[]> {
  const action = "read how far the snapshot is";
  const rows = await db.query<StatusRow>(db.ours(STATUS), [], { action, timeoutMs: CONTROL_TIMEOUT_MS });
  return rows.map(statusOf);
}

class PostgresSnapshotSource implements SnapshotSource {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async hold(owner: string, ttlMs: number): Promise<boolean> {
    const [row] = await this.#ask<{ held: string }>(HOLD, [owner, String(ttlMs)], "take the right to run the snapshot");
    return row?.held === "t";
  }

  async holder(): Promise<SnapshotHolder | null> {
    const [row] = await this.#ask<Record<"owner" | "until" | "expired", string>>(
      HOLDER,
      [],
      "look who runs the snapshot",
    );
    return row ? { owner: row.owner, until: row.until, expired: row.expired === "t" } : null;
  }

  async letGo(owner: string): Promise<void> {
    await this.#ask(HOLD, [owner, "0"], "give up the right to run the snapshot");
  }

  async begin({ tables, owner, restart, exact }: BeginOptions): Promise<readonly SnapshotTable[]> {
    const ids = await this.#idsOf(tables);
    const params = [textArray(ids), owner, String(restart), String(exact)];
    await this.#ask(BEGIN, params, "prepare the snapshot", CHUNK_TIMEOUT_MS);
    return await this.progress(ids);
  }

  async progress(tableIds: readonly string[]): Promise<readonly SnapshotTable[]> {
    const rows = await this.#ask<StatusRow & Readonly<Record<"confirmed" | "circle", string>>>(
      TABLES,
      [textArray(tableIds)],
      "read how far the snapshot is",
    );
    return rows.map((row) => ({
      ...statusOf(row),
      tableId: row.table_id,
      confirmed: row.confirmed === "t",
      circle: row.circle === "t",
    }));
  }

  async step(
    tableId: string,
    owner: string,
    ttlMs: number,
    mostRows: number,
    mostBytes: number,
  ): Promise<SnapshotChunk> {
    const params = [tableId, owner, String(ttlMs), String(mostRows), String(mostBytes)];
    const action = "put rows of the snapshot into the queue";
    const [row] = await this.#ask<Record<"sent" | "bytes" | "ended" | "begun_anew", string>>(
      STEP,
      params,
      action,
      CHUNK_TIMEOUT_MS,
    );
    if (!row) throw new Error("STEP answers with one row");
    return {
      rows: Number(row.sent),
      bytes: Number(row.bytes),
      ended: row.ended === "t",
      begunAnew: row.begun_anew === "t",
    };
  }

  async pressure(): Promise<Pressure> {
    const [{ unpublished, bytes }, [row]] = await Promise.all([
      backlogWithBytes(this.#db),
      this.#ask<{ publishing: string }>(PUBLISHING, [], "look whether a publisher is running"),
    ]);
    return { changes: unpublished, bytes, publishing: row?.publishing === "t" };
  }

  /** @throws `snapshot.unknown_table`, `snapshot.no_table` */
  async #idsOf(tables: readonly string[]): Promise<readonly string[]> {
    const known = await this.#ask<Record<"table_id" | "schema_name" | "table_name", string>>(
      REPLICATED,
      [],
      "list the replicated tables",
    );
    if (tables.length === 0) {
      if (known.length > 0) return known.map((row) => row.table_id);
      throw refused(
        "snapshot.no_table",
        "Cannot send a snapshot: no table is under replication",
        "replicator tables add",
      );
    }
    return tables.map((table) => {
      const name = parseTableName(table);
      const row = known.find((one) => one.schema_name === name?.schema && one.table_name === name.name);
      if (row) return row.table_id;
      throw refused(
        "snapshot.unknown_table",
        `Cannot send a snapshot of ${table}: it is not under replication`,
        `replicator tables add ${table}; replicator tables list shows those that are`,
      );
    });
  }

  async #ask<R extends Record<string, string | null>>(
    text: string,
    params: readonly string[],
    action: string,
    timeoutMs = CONTROL_TIMEOUT_MS,
  ): Promise<readonly R[]> {
    try {
      return await this.#db.query<R>(this.#db.ours(text), params, { action, timeoutMs });
    } catch (error) {
      throw explained(error);
    }
  }
}

function statusOf(row: StatusRow): SnapshotStatus {
  return {
    table: row.table,
    channel: row.channel,
    state: row.state === "done" || row.state === "running" ? row.state : "waiting",
    rows_done: Number(row.rows_done),
    rows_estimated: Number(row.rows_estimated),
    bytes_done: Number(row.bytes_done),
    requested_by: row.requested_by,
    started_at: row.started_at,
    finished_at: row.finished_at,
  };
}

/** SQLSTATEs of 02i_snapshot.sql. */
const REFUSALS: Readonly<Record<string, string>> = { RPS01: "snapshot.table_changed", RPS02: "snapshot.busy" };

function explained(error: unknown): unknown {
  const code = REFUSALS[sqlState(error) ?? ""];
  if (!(error instanceof ReplicatorError) || code === undefined || !isServerError(error.cause)) return error;
  const hint: unknown = Reflect.get(error.cause, "hint");
  return new ReplicatorError({
    code,
    message: `Cannot go on with the snapshot: ${error.cause.message}`,
    retry: "never",
    fault: "environment",
    remedy: typeof hint === "string" ? hint : undefined,
    cause: error.cause,
  });
}

function refused(code: string, message: string, remedy: string): ReplicatorError {
  return new ReplicatorError({ code, message, retry: "never", fault: "input", remedy });
}
