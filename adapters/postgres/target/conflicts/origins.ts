/**
 * Where the rows of a unit come from, as a JSON array in SQL, one entry for a run of rows: `first` (from 1), `rows`,
 * `source`, `transaction`, `operation`, and `event`, or the `prefix` its event ids are made of (inbox.ts, processed_events).
 */
import type { Param } from "../../connection.ts";
import type { Source, Unit } from "../rows/plan.ts";
import { sourceParams } from "../sources.ts";

/** An SQL expression of type text; its parameters come after those of the source. */
export function originsText(source: Source, schema: string): string {
  if (source.kind !== "inbox") return `$${sourceParams(source).length + 1}::text`;
  return `(SELECT coalesce(json_agg(json_build_object('first', w.ord, 'rows', 1, 'event', i.event_id, 'source', i.source_contour,
      'transaction', i.transaction_id, 'operation', i.operation)), '[]')::text
    FROM unnest($1::text::bigint[]) WITH ORDINALITY AS w(id, ord) JOIN ${schema}.inbox i ON i.id = w.id)`;
}

/** `source`: the contour whose changes these are. */
export function originsParams(unit: Unit, source: string): readonly Param[] {
  if (unit.source.kind === "inbox") return [];
  let next = 1;
  const origins = unit.pieces.map(({ header, batch }) => {
    const first = next;
    const { rows, transaction, operation, first_queue_id } = header;
    next += rows;
    return { first, rows, source, transaction, operation, prefix: `${source}:${batch.epoch}:${first_queue_id}` };
  });
  return [JSON.stringify(origins)];
}

/** The same row by row: ord (from 1), event id, contour, transaction, operation. `origins`: an expression of type json. */
export function originsOf(origins: string): string {
  return `
  SELECT p.first + n.n AS ord, coalesce(p.event, md5(p.prefix || ':' || n.n)::uuid) AS event, p.source, p.transaction, p.operation
  FROM json_to_recordset(${origins}) AS p(first bigint, rows bigint, event uuid, prefix text, source text, transaction text, operation text)
  CROSS JOIN LATERAL generate_series(0, p.rows - 1) AS n(n)`;
}
