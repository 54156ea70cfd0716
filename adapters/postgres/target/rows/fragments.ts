/**
 * A row larger than a message arrives in pieces: they are stored in "replicator".fragment inside the apply transaction and
 * joined there with the last piece (architecture §7.8); JavaScript never holds the whole row.
 */
import type { Chunk, ChunkHeader, Operation } from "../../../../src/core/chunk.ts";
import { ReplicatorError } from "../../../../src/core/errors.ts";
import type { ApplyBatch, ApplyEvent } from "../../../../src/core/target_store.ts";
import type { Connection } from "../../connection.ts";
import { type Catalog, tableKey } from "../catalog/catalog.ts";
import { eventStamp } from "./event_stamp.ts";
import type { WholeChunk } from "./plan.ts";
import { literal } from "./row_block.ts";

interface Open {
  readonly id: string;
  /** Number of the first piece stored. */
  readonly first: number;
  count: number;
}

export class Fragments {
  readonly #connection: Connection;
  readonly #schema: string;
  readonly #ledgerId: number;
  /** Numbers the pieces of this transaction; the table's key only needs them distinct within it. */
  #last = 0;
  #open: Open | null = null;

  constructor(connection: Connection, schema: string, ledgerId: number) {
    this.#connection = connection;
    this.#schema = schema;
    this.#ledgerId = ledgerId;
  }

  /** Whether pieces of a row are stored that is not complete yet: the transaction cannot end here. */
  get incomplete(): boolean {
    return this.#open !== null;
  }

  /** Whether pieces were stored in this transaction. */
  get used(): boolean {
    return this.#last > 0;
  }

  /** A piece of a chunk; the whole chunk with its last piece. @throws ReplicatorError `wire.fragment_missing` */
  async addChunk(chunk: Chunk, batch: ApplyBatch): Promise<WholeChunk | null> {
    const { data, old: _, fragment, ...header } = chunk;
    const { index, count } = fragment ?? { index: 0, count: 1 };
    const open = await this.#store(`chunk ${chunk.first_queue_id}`, index, data);
    if (index + 1 < count) return null;
    const source = this.#close(open);
    const whole = `(SELECT string_agg(f.data, '' ORDER BY f.sequence) FROM ${this.#pieces(source)})`;
    return { piece: { header, batch }, source, columns: await this.#columns(header.operation, `${whole}::json`) };
  }

  /** A piece of an event's body; the row as a chunk with its last piece. */
  async addEvent(event: ApplyEvent, batch: ApplyBatch, catalog: Catalog): Promise<WholeChunk | null> {
    const { id, index, last } = event.fragment ?? { id: "", index: 0, last: true };
    const open = await this.#store(`event ${id}`, index, event.body);
    if (!last) return null;
    const pieces = this.#close(open);
    const body = `(SELECT string_agg(f.data, '' ORDER BY f.sequence)::json AS b FROM ${this.#pieces(pieces)}) AS body`;
    const [head] = await this.#connection.query<Record<string, string>>(
      `SELECT b->>'schema' AS schema, b->>'table' AS table, b->>'operation' AS operation,
  b->'source'->>'transaction' AS transaction, b->'source'->>'queue_id' AS queue_id,
  b->'source'->>'captured_at' AS captured_at,
  (SELECT json_agg(k)::text FROM json_object_keys(b->'key') k) AS key, (b->'stamp')::text AS stamp,
  (SELECT json_agg(k)::text FROM json_object_keys(CASE json_typeof(b->'data') WHEN 'object' THEN b->'data' END) k) AS columns FROM ${body}`,
    );
    const { schema = "", table = "", operation = "" } = head ?? {};
    const columns = JSON.parse(head?.columns ?? "[]") as string[];
    const here = catalog.tables.get(tableKey(schema, table))?.stamp;
    const stamp = eventStamp(head?.stamp ?? null, here, (name) => columns.includes(name));
    const [version, updatedAt, updatedBy] = stamp.map((name) => literal(`${JSON.stringify(name)}:`));
    const deleted = `rtrim((b->'key')::text, E'} \\n') || ',' || ${version} || (b->'version') || ',' || ${updatedAt}
      || (b->'updated_at') || ',' || ${updatedBy} || (b->'updated_by') || '}'`;
    // The row alone takes the place of the pieces.
    const sequence = ++this.#last;
    await this.#connection.execute(
      `INSERT INTO ${this.#schema}.fragment (ledger_id, sequence, data)
SELECT ${this.#ledgerId}, ${sequence}, ${operation === "DELETE" ? deleted : "(b->'data')::text"} FROM ${body}`,
    );
    const source = { kind: "fragments", ledgerId: this.#ledgerId, first: sequence, last: sequence } as const;
    const header: ChunkHeader = {
      schema,
      table,
      operation: operation as Operation,
      transaction: head?.transaction ?? "",
      first_queue_id: head?.queue_id ?? "0",
      captured_at: head?.captured_at ?? "",
      rows: 1,
      key: JSON.parse(head?.key ?? "[]") as string[],
      stamp,
    };
    return { piece: { header, batch }, source, columns };
  }

  /** Nothing of it outlives the transaction. */
  async clear(): Promise<void> {
    if (this.#last === 0) return;
    await this.#connection.execute(`DELETE FROM ${this.#schema}.fragment WHERE ledger_id = $1::int`, [this.#ledgerId]);
  }

  async #store(id: string, index: number, data: string): Promise<Open> {
    const expected = this.#open?.id === id ? this.#open.count : 0;
    if (index !== expected || (this.#open !== null && this.#open.id !== id)) {
      throw new ReplicatorError({
        code: "wire.fragment_missing",
        message: `Read piece ${index} of ${id}, expected piece ${expected}${this.#open ? ` of ${this.#open.id}` : ""}`,
        retry: "backoff",
        fault: "environment",
      });
    }
    const open = this.#open ?? { id, first: this.#last + 1, count: 0 };
    open.count++;
    this.#open = open;
    await this.#connection.execute(
      `INSERT INTO ${this.#schema}.fragment (ledger_id, sequence, data) VALUES ($1::int, $2::bigint, $3)`,
      [this.#ledgerId, ++this.#last, data],
      { action: "store a piece of a large row" },
    );
    return open;
  }

  #close(open: Open) {
    this.#open = null;
    return { kind: "fragments", ledgerId: this.#ledgerId, first: open.first, last: this.#last } as const;
  }

  #pieces({ first, last }: { readonly first: number; readonly last: number }): string {
    return `${this.#schema}.fragment f WHERE f.ledger_id = ${this.#ledgerId} AND f.sequence BETWEEN ${first} AND ${last}`;
  }

  async #columns(operation: string, row: string): Promise<readonly string[]> {
    if (operation === "DELETE" || operation === "TRUNCATE") return [];
    const rows = await this.#connection.query<{ name: string }>(`SELECT json_object_keys(${row}) AS name`, [], {
      prepare: false,
    });
    return rows.map(({ name }) => name);
  }
}
