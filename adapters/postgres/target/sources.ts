/** Where a statement takes its rows from, as SQL and as parameters. */
import { type Param, textArray } from "../connection.ts";
import type { Source } from "./rows/plan.ts";

/** An SQL expression of type text: a JSON array of rows. */
export function sourceText(source: Source, schema: string): string {
  switch (source.kind) {
    case "text":
      return "$1::text";
    case "fragments":
      // Joined here and not in memory: a row may be far larger than a message (architecture §7.8).
      return `(SELECT '[' || string_agg(f.data, '' ORDER BY f.sequence) || ']' FROM ${schema}.fragment f
        WHERE f.ledger_id = $1::int AND f.sequence BETWEEN $2::bigint AND $3::bigint)`;
    case "inbox":
      return `(SELECT '[' || string_agg(i.data, ',' ORDER BY array_position($1::text::bigint[], i.id)) || ']'
        FROM ${schema}.inbox i WHERE i.id = ANY ($1::text::bigint[]))`;
  }
}

/** The same as type json. */
export function sourceJson(source: Source, schema: string): string {
  return `${sourceText(source, schema)}::json`;
}

/** The rows of a `source` expression of a statement as they came, without reading them once more. */
export function sourceAsText(source: string): string {
  return source.endsWith("::json") ? source.slice(0, -"::json".length) : `(${source})::text`;
}

export function sourceParams(source: Source): readonly Param[] {
  switch (source.kind) {
    case "text":
      return [source.text];
    case "fragments":
      return [source.ledgerId, source.first, source.last];
    case "inbox":
      return [textArray(source.ids)];
  }
}
