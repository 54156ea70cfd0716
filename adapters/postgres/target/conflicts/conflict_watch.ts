/**
 * What makes a statement stop where an incoming change meets a write of another contour that it has not seen. It costs
 * nothing while there is none: a comparison of two names beside rows that are at hand anyway. It is evaluated where the
 * row here is locked already, so nothing that is written meanwhile escapes it.
 *
 * A writer that has seen version v writes v + 1, and a later time (architecture §6.1). So a change of another contour whose
 * version is not above the one here has not seen it; neither has one that loses. Seen from a third contour a change that
 * comes late looks the same: a stated limit.
 */
import type { ConflictPolicy } from "../../../../src/core/stamp.ts";
import type { TargetTable } from "../catalog/catalog.ts";
import { aliasOf, keyAliases, type Shape, stampAlias } from "../sql_names.ts";
import { compareStampSql, type StampSql } from "./stamp_sql.ts";

/** SQLSTATE of "replicator".conflict_found(). */
export const CONFLICT_FOUND = "RPB02";

/** `set_config('replicator.conflicts', …)`: nothing is looked for until it is '' again. */
export const CONFLICTS_OFF = "off";

export function writersDiffer(a: StampSql, b: StampSql): string {
  return `${a.updatedBy} COLLATE pg_catalog."C" <> ${b.updatedBy} COLLATE pg_catalog."C"`;
}

/** Whether an incoming stamp of another writer has not seen the one here. */
export function unseen(incoming: StampSql, current: StampSql, policy: ConflictPolicy): string {
  const older = `${incoming.version} <= ${current.version}`;
  return policy === "version" ? older : `(${older} OR ${incoming.updatedAt} < ${current.updatedAt})`;
}

/** Rows older than setup share one stamp at all contours, whatever is in them; snapshots bring them. */
export function unstampedTie(
  shape: Shape,
  incoming: StampSql & { readonly text: string },
  current: StampSql & { readonly text: string },
): string | null {
  if (!shape.ties) return null;
  const equal = compareStampSql(incoming, "=", current, shape.table.policy);
  return `(${current.updatedBy} = '' AND ${equal} AND ${incoming.text} <> ${current.text})`;
}

/** Name of the setting that holds the keys of a table whose conflicts are logged already: JSON strings, comma-separated. */
export function seenSetting(table: TargetTable): string {
  return `replicator.seen_${table.tableId}`;
}

/** A key as one text; `expressions`: its columns' values. */
export function keyText(expressions: string): string {
  return `ROW(${expressions})::text`;
}

export interface Watched {
  readonly schema: string;
  readonly table: TargetTable;
  readonly incoming: StampSql;
  readonly current: StampSql;
  /** keyText of the incoming row. */
  readonly key: string;
  /** More that makes a conflict between different writers (leastUnseen), or whoever wrote them (unstampedTie). */
  readonly least?: string;
  readonly tie?: string | null;
  /** Any row of another writer: other changes of the key follow in other statements of the group. */
  readonly any?: boolean;
}

/** `wins`, a boolean expression; before it is evaluated the statement stops if there is a conflict that is not logged. */
export function watched(wins: string, of: Watched): string {
  const { incoming, current, table, least, tie } = of;
  const late = [unseen(incoming, current, table.policy), ...(least ? [least] : [])].join(" OR ");
  const differ = writersDiffer(incoming, current) + (of.any ? "" : ` AND (${late})`);
  const found = tie ? `${differ} OR ${tie}` : differ;
  return `CASE WHEN (${found}) AND ${of.key} NOT IN (${seenKeys(table)}) AND ${of.schema}.conflict_found() THEN NULL ELSE ${wins} END`;
}

function seenKeys(table: TargetTable): string {
  return `SELECT pg_catalog.json_array_elements_text(('[' || coalesce(current_setting('${seenSetting(table)}', true), '') || ']')::json)`;
}

/**
 * Only the greatest of several rows of a key is written: whether the least of them has not seen the stamp here. `key`:
 * keyText of the row. Needs the CTE `repeated`.
 */
export function leastUnseen(shape: Shape, key: string, current: StampSql): string {
  const least = (value: string) => `((SELECT ${value} FROM repeated) ->> ${key})`;
  const older = `${least("versions")}::bigint <= ${current.version}`;
  const sooner = `${least("times")}::timestamptz < ${current.updatedAt}`;
  const unseen = shape.table.policy === "version" ? older : `(${older} OR ${sooner})`;
  // Hardly ever is a key repeated; its text costs more than all the rest of the comparison.
  return `CASE WHEN (SELECT versions FROM repeated) IS NULL THEN false ELSE ${unseen} END`;
}

/** The least stamps of the keys that `r` has more than once; gathered when a row of another writer is met for the first time. */
export function repeatedKeys(shape: Shape): string {
  const { version, updatedAt } = stampAlias(shape, "r");
  const keys = keyAliases(shape, "r.");
  return `repeated AS MATERIALIZED (
  SELECT pg_catalog.jsonb_object_agg(g.key, g.version) AS versions, pg_catalog.jsonb_object_agg(g.key, g.updated_at) AS times
  FROM (SELECT ${keyText(keys)} AS key, min(${version}) AS version, min(${updatedAt}) AS updated_at
        FROM r GROUP BY ${keys} HAVING count(*) > 1) AS g)`;
}

/** keyText of a row of the shape's table, or of an incoming one. */
export function keyTextOf(shape: Shape, prefix: string): string {
  return keyText(shape.table.key.map(({ name }) => `${prefix}.${aliasOf(shape, name)}`).join(", "));
}
