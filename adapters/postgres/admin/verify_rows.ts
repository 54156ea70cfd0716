/** Rows of one table as digests, worked out in PostgreSQL; statements are short, no snapshot is held between them. */
import type { KeyList, RowChunk, RowImage, RowKey, TableShape, VerifyRows } from "../../../src/core/verify.ts";
import { type Database, type Param, quoteIdentifier, type Row, textArray } from "../connection.ts";
import type { KeyColumn, Polled } from "./verify_shape.ts";

export interface RowsOptions {
  readonly db: Database;
  readonly shape: TableShape;
  /** How the columns of shape.key are compared in this database. */
  readonly key: readonly KeyColumn[];
  readonly columns: readonly string[];
  /** Null for a table that triggers capture. */
  readonly polled: Polled | null;
}

/** Place of a key in its list, counted from 1 by PostgreSQL. */
const PLACE = "replicator_place";

export function verifyRows(options: RowsOptions): VerifyRows {
  return new PostgresRows(options);
}

class PostgresRows implements VerifyRows {
  readonly #options: RowsOptions;
  readonly #from: string;
  readonly #order: string;
  /** Every column as text, in one value that tells NULL from '' and where a column ends. */
  readonly #hash: string;

  constructor(options: RowsOptions) {
    this.#options = options;
    const { shape, key, columns } = options;
    this.#from = `${quoteIdentifier(shape.schema)}.${quoteIdentifier(shape.name)}`;
    this.#order = key.map(({ name }) => `t.${quoteIdentifier(name)}`).join(", ");
    const texts = columns.map((name) => `t.${quoteIdentifier(name)}::text`).join(", ");
    // Bytes of UTF-8: the databases may have different encodings.
    this.#hash = `md5(convert_to(ROW(${texts})::text, 'UTF8'))`;
  }

  async next(after: RowKey | null, limit: number, signal: AbortSignal): Promise<RowChunk | null> {
    const row = await this.#page(after, limit, `md5(string_agg(x.hash, '' ORDER BY x.n))`, this.#hash, signal);
    return row && { keys: row.keys, last: row.last, digest: row.digest };
  }

  async nextKeys(after: RowKey | null, limit: number, signal: AbortSignal) {
    const row = await this.#page(after, limit, "''", "''", signal);
    return row && { keys: row.keys, last: row.last };
  }

  async digest(keys: KeyList, signal: AbortSignal): Promise<string> {
    const [row] = await this.#query<{ digest: string }>(
      `SELECT coalesce(md5(string_agg(${this.#hash}, '' ORDER BY k.${PLACE})), '') AS digest FROM ${this.#listed("JOIN")}`,
      keys.columns,
      signal,
    );
    return row?.digest ?? "";
  }

  async hashes(keys: KeyList, signal: AbortSignal): Promise<readonly (string | null)[]> {
    const [row] = await this.#query<{ hashes: string | null }>(
      `SELECT string_agg(CASE WHEN ${this.#absent()} THEN '-' ELSE ${this.#hash} END, ' ' ORDER BY k.${PLACE}) AS hashes
         FROM ${this.#listed("LEFT JOIN")}`,
      keys.columns,
      signal,
    );
    if (!row?.hashes) return [];
    return row.hashes.split(" ").map((hash) => (hash === "-" ? null : hash));
  }

  async missing(keys: KeyList, signal: AbortSignal): Promise<readonly number[]> {
    const [row] = await this.#query<{ places: string | null }>(
      `SELECT string_agg((k.${PLACE} - 1)::text, ' ' ORDER BY k.${PLACE}) AS places
         FROM ${this.#listed("LEFT JOIN")} WHERE ${this.#absent()}`,
      keys.columns,
      signal,
    );
    return row?.places ? row.places.split(" ").map(Number) : [];
  }

  async pick(keys: KeyList, places: readonly number[], signal: AbortSignal): Promise<readonly RowKey[]> {
    const rows = await this.#query(
      `SELECT ${this.#parts("k").join(", ")} FROM ${this.#keys()}
        WHERE k.${PLACE} - 1 = ANY ($${keys.columns.length + 1}::text::bigint[]) ORDER BY k.${PLACE}`,
      [...keys.columns, textArray(places)],
      signal,
    );
    return rows.map((row) => this.#keyOf(row));
  }

  list(keys: readonly RowKey[]): KeyList {
    return {
      columns: this.#options.key.map((_, place) => textArray(keys.map((key) => key[place] ?? null))),
      count: keys.length,
    };
  }

  async images(keys: KeyList, signal: AbortSignal): Promise<readonly (RowImage | null)[]> {
    const { columns, shape } = this.#options;
    const stamp = (shape.stamp ?? []).map((name) => `t.${quoteIdentifier(name)}::text`);
    const hashes = columns.map((name) => `md5(convert_to(quote_nullable(t.${quoteIdentifier(name)}::text), 'UTF8'))`);
    const rows = await this.#query<Readonly<Record<"absent" | "hashes" | "version" | "at" | "by", string | null>>>(
      `SELECT (${this.#absent()})::text AS absent, concat_ws(' ', ${hashes.join(", ")}) AS hashes,
              ${stamp[0] ?? "NULL"} AS version, ${stamp[1] ?? "NULL"} AS at, ${stamp[2] ?? "NULL"} AS by
         FROM ${this.#listed("LEFT JOIN")} ORDER BY k.${PLACE}`,
      keys.columns,
      signal,
    );
    return rows.map(({ absent, hashes, version, at, by }) =>
      absent === "true" ? null : { hashes: hashes?.split(" ") ?? [], stamp: [version, at, by] },
    );
  }

  async unpolled(keys: KeyList, signal: AbortSignal): Promise<readonly boolean[]> {
    const { polled, shape, key, db } = this.#options;
    const [, at, by] = (shape.stamp ?? []).map(quoteIdentifier);
    if (polled === null || at === undefined || by === undefined) {
      return Array.from({ length: keys.count }, () => false);
    }
    // A row that is not here may have been deleted since the last poll: its tombstone has the stamp.
    const same = key.map(({ name, type, equal }, place) => `s.${quoteIdentifier(name)} ${equal} k.k${place}::${type}`);
    const stone = polled.tombstones ? `LEFT JOIN "replicator".tombstone_${polled.id} s ON ${same.join(" AND ")}` : "";
    const stamp = (column: string) => (polled.tombstones ? `coalesce(t.${column}, s.${column})` : `t.${column}`);
    // The next run begins at keep_from: what is stamped below it has been read, by whichever run (architecture §8).
    const text = `SELECT coalesce(${stamp(by)} = (SELECT contour FROM "replicator".local) AND ${stamp(at)} >= coalesce(
                     (SELECT r.keep_from FROM "replicator".sync_run r WHERE r.table_id = ${polled.id} AND r.finished_at IS NOT NULL
                       ORDER BY r.run_no DESC LIMIT 1), '-infinity'), false)::text AS unpolled
                FROM ${this.#listed("LEFT JOIN")} ${stone} ORDER BY k.${PLACE}`;
    const rows = await this.#query<{ unpolled: string }>(db.ours(text), keys.columns, signal);
    return rows.map(({ unpolled }) => unpolled === "true");
  }

  async newest(limit: number, signal: AbortSignal) {
    const at = quoteIdentifier(this.#options.shape.stamp?.[1] ?? "updated_at");
    const rows = await this.#query<Row>(
      `SELECT ${this.#parts("t").join(", ")}, t.${at}::text AS at FROM ${this.#from} t ORDER BY t.${at} DESC LIMIT ${limit}`,
      [],
      signal,
    );
    return rows.map((row) => ({ key: this.#keyOf(row), at: row.at ?? "" }));
  }

  async #page(after: RowKey | null, limit: number, digest: string, hash: string, signal: AbortSignal) {
    const { key } = this.#options;
    const parts = key.map((_, place) => `array_agg(x.k${place} ORDER BY x.n)::text AS k${place}`);
    const lasts = key.map((_, place) => `(array_agg(x.k${place} ORDER BY x.n DESC))[1] AS last${place}`);
    const [row] = await this.#query<Row>(
      `SELECT count(*)::text AS rows, ${digest} AS digest, ${[...parts, ...lasts].join(", ")}
         FROM (SELECT row_number() OVER (ORDER BY ${this.#order}) AS n, ${this.#parts("t").join(", ")}, ${hash} AS hash
                 FROM (SELECT t.* FROM ${this.#from} t ${after ? `WHERE ${this.#beyond()}` : ""}
                        ORDER BY ${this.#order} LIMIT ${limit}) t) x`,
      after ?? [],
      signal,
    );
    const count = Number(row?.rows ?? 0);
    if (!row || count === 0) return null;
    return {
      keys: { columns: key.map((_, place) => row[`k${place}`] ?? "{}"), count },
      last: key.map((_, place) => row[`last${place}`] ?? ""),
      digest: row.digest ?? "",
    };
  }

  /** Keys of the list, k, with the rows t that have them. */
  #listed(join: "JOIN" | "LEFT JOIN"): string {
    const same = this.#options.key.map(
      ({ name, type, equal }, place) => `t.${quoteIdentifier(name)} ${equal} k.k${place}::${type}`,
    );
    return `${this.#keys()} ${join} ${this.#from} t ON ${same.join(" AND ")}`;
  }

  #keys(): string {
    const { key } = this.#options;
    const lists = key.map((_, place) => `$${place + 1}::text::text[]`).join(", ");
    return `unnest(${lists}) WITH ORDINALITY AS k(${key.map((_, place) => `k${place}`).join(", ")}, ${PLACE})`;
  }

  #parts(alias: "t" | "k"): string[] {
    const { key } = this.#options;
    return key.map(({ name }, place) =>
      alias === "k" ? `k.k${place}` : `t.${quoteIdentifier(name)}::text AS k${place}`,
    );
  }

  #absent(): string {
    // Key columns are never NULL in a row.
    return `t.${quoteIdentifier(this.#options.key[0]?.name ?? "")} IS NULL`;
  }

  /** Rows after a key: one comparison of rows where the operators have plain names, so that the index gives a range. */
  #beyond(): string {
    const { key } = this.#options;
    const column = (place: number) => `t.${quoteIdentifier(key[place]?.name ?? "")}`;
    const given = (place: number) => `$${place + 1}::text::${key[place]?.type}`;
    if (key.every(({ greater }) => greater === ">")) {
      return `(${key.map((_, n) => column(n)).join(", ")}) > (${key.map((_, n) => given(n)).join(", ")})`;
    }
    const arms = key.map(({ greater }, place) => {
      const before = key.slice(0, place).map(({ equal }, n) => `${column(n)} ${equal} ${given(n)}`);
      return `(${[...before, `${column(place)} ${greater} ${given(place)}`].join(" AND ")})`;
    });
    return arms.join(" OR ");
  }

  #keyOf(row: Row): RowKey {
    return this.#options.key.map((_, place) => row[`k${place}`] ?? "");
  }

  #query<R extends Row = Row>(text: string, params: readonly Param[], signal: AbortSignal): Promise<readonly R[]> {
    const { db, shape } = this.#options;
    return db.query<R>(text, params, { action: `read table ${shape.table} of ${db.label}`, signal });
  }
}
