/**
 * Constraints that PostgreSQL does not check in replica mode, checked set-wise (architecture §7.7): foreign keys in both
 * directions, and deferrable unique constraints. Each is a count; above zero the group takes the path of its SQLSTATE.
 */
import type { ForeignKey, TargetTable } from "../catalog/catalog.ts";
import { qualified } from "../catalog/catalog.ts";
import { deletesSql } from "../conflicts/stamp_sql.ts";
import { aliasOf, id, keyMatches, keyPlace, keysOf, rowsOf, type Shape, stampAlias, stampOf } from "../sql_names.ts";

/** Which foreign keys the upsert checks itself: `ranked` are those whose parents are written before. */
export type ParentCheck = "none" | "ranked" | "all";

/** A check in a statement of its own, after everything of the group is written. */
export interface LateCheck {
  readonly sqlState: "23503" | "23505";
  readonly constraint: string;
  /** Answers with one row, one column `missing`. */
  readonly statement: string;
}

export function constraintMessage(check: LateCheck): string {
  return check.sqlState === "23503"
    ? `the foreign key "${check.constraint}" would be violated`
    : `the constraint "${check.constraint}" would be violated`;
}

export function isSelfReference(fk: ForeignKey): boolean {
  return fk.childSchema === fk.parentSchema && fk.childTable === fk.parentTable;
}

/**
 * The parents of the rows just upserted, inside the upsert itself: they were written by statements before it. Read FOR
 * KEY SHARE, so that a concurrent local DELETE of a parent waits for us or is seen by us.
 */
export function parentChecks(shape: Shape, check: ParentCheck) {
  const { table } = shape;
  const keys = check === "none" ? [] : table.parents.filter((fk) => check === "all" || !table.lateParents.has(fk.name));
  const returning: string[] = [];
  const ctes: string[] = [];
  const missing: string[] = [];
  keys.forEach((fk, n) => {
    const columns = fk.childColumns.map((_, place) => `f${n}_${place}`);
    returning.push(...fk.childColumns.map((name, place) => `c.${id(name)} AS ${columns[place]}`));
    const wanted = `w${n}`;
    const present = columns.map((column) => `up.${column} IS NOT NULL`).join(" AND ");
    ctes.push(`${wanted} AS MATERIALIZED (SELECT DISTINCT ${columns.join(", ")} FROM up WHERE ${present})`);
    const pairs = (parent: (name: string, place: number) => string) =>
      fk.parentColumns
        .map((name, place) => `${parent(name, place)} ${fk.equals[place]} ${wanted}.${columns[place]}`)
        .join(" AND ");
    const found = fk.parentColumns.map((name, place) => `p.${id(name)} AS a${place}`);
    ctes.push(`p${n} AS MATERIALIZED (
  SELECT ${found.join(", ")} FROM ${qualified(fk.parentSchema, fk.parentTable)} p JOIN ${wanted} ON ${pairs((name) => `p.${id(name)}`)}
  FOR KEY SHARE OF p)`);
    // A row may be its own parent; it is not in this statement's snapshot.
    const itself = isSelfReference(fk)
      ? ` AND NOT EXISTS (SELECT FROM up WHERE ${pairs((name) => `up.${keyPlace(table, name)}`)})`
      : "";
    missing.push(
      `(SELECT count(*) FROM ${wanted} WHERE NOT EXISTS (SELECT FROM p${n} WHERE ${pairs((_, place) => `p${n}.a${place}`)})${itself})`,
    );
  });
  return { returning, ctes, missing: missing.length > 0 ? missing.join(" + ") : "0" };
}

/** For a table whose rows were upserted. */
export function upsertChecks(table: TargetTable, source: string): readonly LateCheck[] {
  return [
    ...table.parents.filter((fk) => table.lateParents.has(fk.name)).map((fk) => lateParentCheck(table, fk, source)),
    ...table.deferrableUnique.map((columns) => uniqueCheck(table, columns, source)),
  ];
}

/** For a table of which rows were deleted by key: no child of theirs may be left. */
export function deleteChecks(table: TargetTable, source: string): readonly LateCheck[] {
  return table.children.map((fk) => {
    const child = pairs(fk, (name) => `k.${keyPlace(table, name)}`, "ch");
    const parent = pairs(fk, (name) => `p.${id(name)}`, "ch");
    return {
      sqlState: "23503",
      constraint: fk.name,
      statement: `SELECT count(*) AS missing FROM (${keysOf(table, source)}) AS k
JOIN ${qualified(fk.childSchema, fk.childTable)} ch ON ${child}
WHERE NOT EXISTS (SELECT FROM ${table.sql} p WHERE ${parent})`,
    };
  });
}

/** For a table that was truncated: any child may have lost its parent. */
export function truncateChecks(table: TargetTable): readonly LateCheck[] {
  return table.children.map((fk) => {
    const present = fk.childColumns.map((name) => `ch.${id(name)} IS NOT NULL`).join(" AND ");
    return {
      sqlState: "23503",
      constraint: fk.name,
      statement: `SELECT count(*) AS missing FROM ${qualified(fk.childSchema, fk.childTable)} ch
WHERE ${present} AND NOT EXISTS (SELECT FROM ${table.sql} p WHERE ${pairs(fk, (name) => `p.${id(name)}`, "ch")})`,
    };
  });
}

/**
 * In origin mode, before rows go: PostgreSQL would do what ON DELETE says by itself, and nobody would capture it (review
 * A6). Rows that refer to one that goes are apply's to clear first (arbitrate.ts). Of tables that are replicated only.
 */
export function cascadeChecks(shape: Shape, source: string): readonly LateCheck[] {
  const { table } = shape;
  const goes = deletesSql(stampAlias(shape, "n"), stampOf(table, "c"), table.policy);
  const sameKey = shape.columns.some(({ column }) => table.key.includes(column))
    ? `${keyMatches(
        table,
        (name) => `c.${id(name)}`,
        (name) => `n.${aliasOf(shape, name)}`,
      )} AND `
    : "";
  const acting = table.children.filter((fk) => fk.onDelete !== "a" && fk.onDelete !== "r" && fk.replicated);
  return acting.map((fk) => ({
    sqlState: "23503",
    constraint: fk.name,
    statement: `SELECT count(*) AS missing FROM (${rowsOf(shape, source)}) AS n JOIN ${table.sql} c ON ${sameKey}${goes}
JOIN ${qualified(fk.childSchema, fk.childTable)} ch ON ${pairs(fk, (name) => `c.${id(name)}`, "ch")}`,
  }));
}

function lateParentCheck(table: TargetTable, fk: ForeignKey, source: string): LateCheck {
  const present = fk.childColumns.map((name) => `ch.${id(name)} IS NOT NULL`).join(" AND ");
  const sameRow = keyMatches(
    table,
    (name) => `ch.${id(name)}`,
    (name) => `k.${keyPlace(table, name)}`,
  );
  const wanted = fk.childColumns.map((name, place) => `ch.${id(name)} AS f${place}`);
  const parent = fk.parentColumns.map((name, place) => `p.${id(name)} ${fk.equals[place]} w.f${place}`).join(" AND ");
  const found = fk.parentColumns.map((name, place) => `p.${id(name)} AS a${place}`);
  const locked = fk.parentColumns.map((_, place) => `l.a${place} ${fk.equals[place]} w.f${place}`).join(" AND ");
  return {
    sqlState: "23503",
    constraint: fk.name,
    statement: `WITH w AS MATERIALIZED (
  SELECT DISTINCT ${wanted.join(", ")} FROM (${keysOf(table, source)}) AS k JOIN ${table.sql} ch ON ${sameRow} WHERE ${present}),
l AS MATERIALIZED (
  SELECT ${found.join(", ")} FROM ${qualified(fk.parentSchema, fk.parentTable)} p JOIN w ON ${parent} FOR KEY SHARE OF p)
SELECT count(*) AS missing FROM w WHERE NOT EXISTS (SELECT FROM l WHERE ${locked})`,
  };
}

function uniqueCheck(table: TargetTable, columns: readonly string[], source: string): LateCheck {
  const sameValues = columns
    .map((name) => `b.${id(name)} ${table.columns.get(name)?.equals ?? "="} a.${id(name)}`)
    .join(" AND ");
  const sameRow = keyMatches(
    table,
    (name) => `a.${id(name)}`,
    (name) => `k.${keyPlace(table, name)}`,
  );
  const otherRow = keyMatches(
    table,
    (name) => `b.${id(name)}`,
    (name) => `a.${id(name)}`,
  );
  return {
    sqlState: "23505",
    constraint: `unique (${columns.join(", ")})`,
    statement: `SELECT count(*) AS missing FROM (${keysOf(table, source)}) AS k JOIN ${table.sql} a ON ${sameRow}
JOIN ${table.sql} b ON ${sameValues} AND NOT (${otherRow})`,
  };
}

function pairs(fk: ForeignKey, parent: (name: string) => string, child: string): string {
  return fk.parentColumns
    .map((name, place) => `${parent(name)} ${fk.equals[place]} ${child}.${id(fk.childColumns[place] ?? "")}`)
    .join(" AND ");
}
