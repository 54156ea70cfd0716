/** The rule of src/core/stamp.ts as SQL expressions. Any change here must hold in tests/integration/target_stamp.test.ts. */
import type { ConflictPolicy } from "../../../../src/core/stamp.ts";

/** Three SQL expressions. */
export interface StampSql {
  readonly version: string;
  readonly updatedAt: string;
  readonly updatedBy: string;
}

/** The stamp as expressions in the order the policy compares them; collation "C" whatever the column says (review A5). */
export function stampList(stamp: StampSql, policy: ConflictPolicy): readonly string[] {
  const by = `${stamp.updatedBy} COLLATE pg_catalog."C"`;
  return policy === "version" ? [stamp.version, stamp.updatedAt, by] : [stamp.updatedAt, stamp.version, by];
}

export function compareStampSql(a: StampSql, operator: ">" | ">=" | "=", b: StampSql, policy: ConflictPolicy): string {
  return `(${stampList(a, policy).join(", ")}) ${operator} (${stampList(b, policy).join(", ")})`;
}

/** replaces(): a greater stamp, or an equal one and the greater row text. */
export function replacesSql(
  incoming: StampSql & { readonly text: string },
  current: StampSql & { readonly text: string },
  policy: ConflictPolicy,
): string {
  const greater = compareStampSql(incoming, ">", current, policy);
  // The text is built only when the stamps are equal: duplicates and rows older than setup.
  const tie = compareStampSql(incoming, "=", current, policy);
  return `(${greater} OR (${tie} AND ${incoming.text} > ${current.text}))`;
}

/** deletes(): the tombstone's stamp is greater or equal. */
export function deletesSql(tombstone: StampSql, row: StampSql, policy: ConflictPolicy): string {
  return compareStampSql(tombstone, ">=", row, policy);
}

/** `ORDER BY` items that put the greatest stamp first. */
export function greatestFirst(stamp: StampSql, policy: ConflictPolicy): string {
  return stampList(stamp, policy)
    .map((item) => `${item} DESC`)
    .join(", ");
}

/** A row's text for ties: its values, columns in the order of their names, so that column order at a site does not matter. */
export function rowText(expressions: ReadonlyMap<string, string>): string {
  const names = [...expressions.keys()].sort();
  return `ROW(${names.map((name) => expressions.get(name)).join(", ")})::text COLLATE pg_catalog."C"`;
}
