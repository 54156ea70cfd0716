/** Changes on their way into a target, and what became of them. */
import type { Operation } from "../../../src/core/chunk.ts";
import type { Stamp } from "../../../src/core/stamp.ts";
import type { ApplyBatch } from "../../../src/core/target_store.ts";
import { decodeLines, Row } from "./row.ts";
import { TABLES, type TableDefinition } from "./schema.ts";
import type { EventBody } from "./source.ts";

export interface Incoming {
  readonly source: string;
  /** `source/queue id`: the same whatever message brings it. */
  readonly event: string;
  /** `source:xid` of the transaction there. */
  readonly transaction: string;
  readonly table: TableDefinition;
  readonly operation: Operation;
  readonly key: string;
  readonly stamp: Stamp;
  /** Null for deletions. */
  readonly row: Row | null;
}

/**
 * applied: it is what the target has now. beaten: a greater stamp is there. overridden: a captured local change is above
 * it. parked: kept, to be tried again.
 */
export type Outcome = "applied" | "beaten" | "overridden" | "parked";
export type Outcomes = Map<Incoming, Outcome>;

/** Joins what arrives in pieces; one for each transaction, because the pieces of a row are in one transaction. */
export class Pieces {
  #text = "";

  /** The changes of a batch that are complete now. */
  take(source: string, batch: ApplyBatch): Incoming[] {
    const incoming: Incoming[] = [];
    for (const chunk of batch.chunks) {
      const { fragment } = chunk;
      const data = this.#join(chunk.data, fragment === undefined || fragment.index === fragment.count - 1);
      if (data !== null) incoming.push(...changes(source, chunk.table, chunk.operation, chunk.transaction, data));
    }
    for (const event of batch.events) {
      const whole = this.#join(event.body, event.fragment === undefined || event.fragment.last);
      if (whole === null) continue;
      const { operation, transaction, line }: EventBody = JSON.parse(whole);
      incoming.push(...changes(source, event.table, operation, transaction, line));
    }
    return incoming;
  }

  #join(text: string, last: boolean): string | null {
    const joined = this.#text + text;
    this.#text = last ? "" : joined;
    return last ? joined : null;
  }
}

function changes(
  source: string,
  tableName: string,
  operation: Operation,
  transaction: string,
  data: string,
): Incoming[] {
  const table = TABLES.find(({ name }) => name === tableName);
  if (!table) throw new Error(`A change of unknown table "${tableName}" arrived`);
  const isRow = operation !== "DELETE" && operation !== "TRUNCATE";
  return decodeLines(data).map(({ id, key, stamp, values }) => ({
    source,
    event: `${source}/${id}`,
    transaction: `${source}:${transaction}`,
    table,
    operation,
    key,
    stamp,
    row: isRow ? new Row(key, stamp, values) : null,
  }));
}
