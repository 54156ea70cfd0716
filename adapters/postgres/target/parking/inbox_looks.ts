/** What is asked of the inbox between attempts: what is in it, what the catalog has changed for, what is due. */
import { type Connection, type Database, type Param, textArray } from "../../connection.ts";
import type { TableDigest } from "./catalog_digest.ts";

/** Changes of one table refused for one reason. */
export interface Group {
  readonly schema: string;
  readonly table: string;
  readonly code: string;
  /** For the schema to change. */
  readonly waits: boolean;
}

export function groupName({ schema, table, code }: Omit<Group, "waits">): string {
  return JSON.stringify([schema, table, code]);
}

/** Changes of one table from sources that call its stamp alike. */
export interface ParkedGroup {
  readonly schema: string;
  readonly table: string;
  /** As SQL writes it. */
  readonly label: string;
  readonly stamp: readonly [string, string, string] | null;
  readonly entries: number;
  readonly bytes: number;
  /** Of them those that wait for the schema. */
  readonly waiting: number;
}

export interface Picked extends Group {
  readonly id: string;
}

/** So many of a group that waits for the schema are tried by the clock; the rest goes when one of them has gone. */
const CANARIES = 20;
/** Changes of at most this many bytes are tried in one transaction. */
const RETRY_BYTES = 16_000_000;

interface PickedRow {
  readonly id: string;
  readonly schema: string;
  readonly table: string;
  readonly code: string;
  readonly waits: string;
  readonly bytes: string;
  readonly [column: string]: string;
}

const PICKED = "id, schema_name AS schema, table_name AS table, error_code AS code, waits, octet_length(data) AS bytes";

export class InboxLooks {
  readonly #db: Database;
  readonly #inbox: string;

  constructor(db: Database, schema: string) {
    this.#db = db;
    this.#inbox = `${schema}.inbox`;
  }

  async groups(): Promise<readonly ParkedGroup[]> {
    const rows = await this.#db.query<
      Record<"schema" | "table" | "label" | "entries" | "bytes" | "waiting", string> & { stamp: string | null }
    >(
      `SELECT schema_name AS schema, table_name AS table, array_to_json(stamp_columns)::text AS stamp,
  CASE WHEN schema_name = 'public' THEN '' ELSE quote_ident(schema_name) || '.' END || quote_ident(table_name) AS label,
  count(*) AS entries, sum(octet_length(data)) AS bytes, count(*) FILTER (WHERE waits AND status = 'parked') AS waiting
FROM ${this.#inbox} GROUP BY schema_name, table_name, stamp_columns ORDER BY 1, 2`,
      [],
      { action: "look what is parked" },
    );
    return rows.map(({ stamp, entries, bytes, waiting, ...names }) => ({
      ...names,
      stamp: stamp === null ? null : (JSON.parse(stamp) as [string, string, string]),
      entries: Number(entries),
      bytes: Number(bytes),
      waiting: Number(waiting),
    }));
  }

  /**
   * Makes due, dead letters too, what was last tried under another catalog. Of what rests nothing is made due one by one:
   * its groups are returned, with all others for which something has changed.
   */
  async follow(digests: readonly TableDigest[]): Promise<readonly Group[]> {
    const list = (values: readonly string[]): Param => textArray(values);
    const rows = await this.#db.query<Record<"schema" | "table" | "code" | "waits", string>>(
      `WITH stale AS (
  SELECT i.id, i.catalog AS was, d.digest, i.waits AND i.status = 'parked' AND i.next_attempt_at = 'infinity' AS rests
  FROM ${this.#inbox} i
  JOIN unnest($1::text::text[], $2::text::text[], $3::text::text[]) AS d(schema_name, table_name, digest) USING (schema_name, table_name)
  WHERE i.catalog IS DISTINCT FROM d.digest FOR UPDATE OF i SKIP LOCKED),
followed AS (
  UPDATE ${this.#inbox} i
  SET catalog = s.digest, next_attempt_at = CASE WHEN s.was IS NULL OR s.rests THEN i.next_attempt_at ELSE clock_timestamp() END
  FROM stale s WHERE i.id = s.id
  RETURNING i.schema_name AS schema, i.table_name AS table, i.error_code AS code, i.waits, s.was)
SELECT DISTINCT schema, "table", code, waits FROM followed WHERE was IS NOT NULL`,
      [
        list(digests.map(({ schema }) => schema)),
        list(digests.map(({ table }) => table)),
        list(digests.map(({ digest }) => digest)),
      ],
      { action: "make parked changes due for which the catalog has changed" },
    );
    return rows.map((row) => ({ ...row, waits: row.waits === "t" }));
  }

  /** Of each group that waits for the schema the oldest few are tried by the clock, the others rest; not what a person asks for. */
  async rest(): Promise<void> {
    await this.#db.execute(
      `UPDATE ${this.#inbox} i SET next_attempt_at = CASE WHEN r.nth > ${CANARIES} THEN 'infinity' ELSE clock_timestamp() END
FROM (SELECT id, row_number() OVER (PARTITION BY schema_name, table_name, error_code ORDER BY id) AS nth
      FROM ${this.#inbox} WHERE waits AND status = 'parked' AND attempts > 0) AS r
WHERE i.id = r.id AND (r.nth > ${CANARIES}) <> (i.next_attempt_at = 'infinity')`,
      [],
      { action: "let parked changes rest" },
    );
  }

  /** Locks what is due, then what rests in the open groups, as far as `limit` and the bytes go. `seen`: groups looked at. */
  async pick(
    connection: Connection,
    limit: number,
    open: readonly Group[],
  ): Promise<{ readonly picked: readonly Picked[]; readonly seen: readonly Group[] }> {
    const seen: Group[] = [];
    const action = { action: "find parked changes that are due" };
    const rows: PickedRow[] = [
      ...(await connection.query<PickedRow>(
        `SELECT ${PICKED} FROM ${this.#inbox} WHERE next_attempt_at <= clock_timestamp()
ORDER BY next_attempt_at, id LIMIT $1::int FOR UPDATE SKIP LOCKED`,
        [limit],
        action,
      )),
    ];
    for (const group of open) {
      if (rows.length >= limit) break;
      seen.push(group);
      const { schema, table, code } = group;
      rows.push(
        ...(await connection.query<PickedRow>(
          `SELECT ${PICKED} FROM ${this.#inbox}
WHERE schema_name = $1 AND table_name = $2 AND error_code = $3 AND status = 'parked' AND next_attempt_at = 'infinity'
ORDER BY id LIMIT $4::int FOR UPDATE SKIP LOCKED`,
          [schema, table, code, limit - rows.length],
          action,
        )),
      );
    }
    const picked = withinBytes(rows).map(({ id, schema, table, code, waits }) => ({
      id,
      schema,
      table,
      code,
      waits: waits === "t",
    }));
    return { picked, seen };
  }
}

function withinBytes(rows: readonly PickedRow[]): readonly PickedRow[] {
  let bytes = 0;
  return rows.filter((row, n) => {
    bytes += Number(row.bytes);
    return bytes <= RETRY_BYTES || n === 0;
  });
}
