/** What a chunk's header says about its table. */
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Database } from "../connection.ts";

export interface TableFacts {
  readonly schema: string;
  readonly name: string;
  readonly key: readonly string[];
  readonly stamp: readonly [string, string, string];
}

const TABLE = `
SELECT schema_name, table_name, array_to_json(key_columns)::text AS key, array_to_json(stamp_columns)::text AS stamp
FROM "replicator".replicated_table WHERE table_id = $1`;

/** Read once: what a table_id says never changes (I13); a table put under replication anew gets another id. */
export class Tables {
  readonly #db: Database;
  readonly #known = new Map<string, TableFacts>();

  constructor(db: Database) {
    this.#db = db;
  }

  async facts(tableId: string): Promise<TableFacts> {
    return this.#known.get(tableId) ?? this.#read(tableId);
  }

  async #read(tableId: string): Promise<TableFacts> {
    const action = `look up table ${tableId} of the queue`;
    const [row] = await this.#db.query<{ schema_name: string; table_name: string; key: string; stamp: string }>(
      this.#db.ours(TABLE),
      [tableId],
      { action },
    );
    // I5: its rows can neither be sent without a name nor be left out.
    if (!row) throw missing(tableId);
    const [version, updatedAt, updatedBy] = names(row.stamp);
    const stamp = [version ?? "", updatedAt ?? "", updatedBy ?? ""] as const;
    const found = {
      schema: row.schema_name,
      name: row.table_name,
      key: names(row.key),
      stamp: [...stamp] as [string, string, string],
    };
    this.#known.set(tableId, found);
    return found;
  }
}

function names(json: string): string[] {
  const value: unknown = JSON.parse(json);
  return Array.isArray(value) ? value.map(String) : [];
}

function missing(tableId: string): ReplicatorError {
  return new ReplicatorError({
    code: "source.table_unknown",
    message: `Cannot send rows of the queue: table id ${tableId} is not in replicated_table`,
    retry: "never",
    fault: "environment",
    remedy: "Put the table's entry back into replicated_table; it may go only when all its queue rows are confirmed",
    facts: { table_id: tableId },
  });
}
