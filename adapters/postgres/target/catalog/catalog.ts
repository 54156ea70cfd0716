/** What this database says about the replicated tables: all that statements are generated from (I10). */
import type { ConflictPolicy } from "../../../../src/core/stamp.ts";
import { parseTableName } from "../../../../src/core/table_name.ts";
import { type Queryable, quoteIdentifier } from "../../connection.ts";
import { CATALOG_QUERY } from "./catalog_query.ts";

export interface Column {
  readonly name: string;
  /** As `format_type` writes it, schema-qualified outside pg_catalog. */
  readonly type: string;
  /** json, jsonb and domains over them: their JSON string is read as text and cast, or it would be taken for JSON itself. */
  readonly json: boolean;
  readonly generated: boolean;
  /** Of a generated column: its expression over the table's other columns. */
  readonly expression?: string | null;
  /** GENERATED ALWAYS AS IDENTITY: written on insert only, with OVERRIDING SYSTEM VALUE. */
  readonly identityAlways: boolean;
  /** Equality of its type, `=` or `OPERATOR("public".=)`: the search path is empty. */
  readonly equals: string;
}

/** A foreign key as seen from the child. */
export interface ForeignKey {
  readonly name: string;
  readonly childSchema: string;
  readonly childTable: string;
  readonly childColumns: readonly string[];
  readonly parentSchema: string;
  readonly parentTable: string;
  readonly parentColumns: readonly string[];
  /** Parent value to child value, one operator a column. */
  readonly equals: readonly string[];
  /** ON DELETE: NO ACTION (a), RESTRICT (r), CASCADE (c), SET NULL (n), SET DEFAULT (d). */
  readonly onDelete: "a" | "r" | "c" | "n" | "d";
  /** Of SET NULL and SET DEFAULT: the columns named there; null for all of the key. */
  readonly setColumns: readonly string[] | null;
  /** Whether the child is under replication. */
  readonly replicated: boolean;
}

/** A unique index or exclusion constraint beside the key: no two rows may answer true to all of its operators. */
export interface UniqueRule {
  /** Of its index, as SQL writes it. */
  readonly name: string;
  /** Over the table's columns, unqualified. */
  readonly expressions: readonly string[];
  readonly operators: readonly string[];
  /** Of a partial index: which rows it is about. */
  readonly predicate: string | null;
  /** UNIQUE NULLS NOT DISTINCT. */
  readonly nullsEqual: boolean;
}

export interface TargetTable {
  readonly tableId: number;
  readonly schema: string;
  readonly name: string;
  /** Quoted, for statements. */
  readonly sql: string;
  /** As SQL writes it, for people. */
  readonly label: string;
  readonly key: readonly Column[];
  readonly stamp: readonly [string, string, string];
  readonly policy: ConflictPolicy;
  /** Where the application stamps and no trigger of ours does: the contour whose name a stamp of ours bears; else null. */
  readonly stampedAs: string | null;
  readonly columns: ReadonlyMap<string, Column>;
  /** Foreign keys of this table, and those that point at it. */
  readonly parents: readonly ForeignKey[];
  readonly children: readonly ForeignKey[];
  /** Columns of deferrable UNIQUE constraints: PostgreSQL does not check them in replica mode (*tried*). */
  readonly deferrableUnique: readonly (readonly string[])[];
  readonly rules: readonly UniqueRule[];
  readonly hasIdentityAlways: boolean;
  readonly partitioned: boolean;
  /** Place in the order "parents first". */
  readonly rank: number;
  /** Names of the foreign keys whose parent is this table itself or comes after it in that order (cycles). */
  readonly lateParents: ReadonlySet<string>;
}

export interface Catalog {
  /** The text it was made from: equal text, equal catalog. */
  readonly text: string;
  readonly tables: ReadonlyMap<string, TargetTable>;
  /** Some replicated table has a deferrable constraint. */
  readonly deferrable: boolean;
  /** Why this database may not be written in replica mode, or null (architecture §7.7). */
  readonly replicaForbidden: string | null;
}

interface CatalogRow {
  readonly id: number;
  readonly schema: string;
  readonly name: string;
  readonly label: string;
  readonly key: readonly string[];
  readonly stamp: readonly [string, string, string];
  readonly policy: ConflictPolicy;
  readonly stampedAs: string | null;
  readonly columns: readonly Column[];
  readonly parents: readonly ForeignKey[] | null;
  readonly children: readonly ForeignKey[] | null;
  readonly unique: readonly (readonly string[])[] | null;
  readonly rules: readonly UniqueRule[] | null;
  readonly partitioned: boolean;
  readonly deferrable: boolean;
  readonly forbids: string | null;
}

export function tableKey(schema: string, name: string): string {
  return `${schema}\u0000${name}`;
}

/**
 * Reads the catalog; the same object again when nothing changed, so that what is cached per table stays valid.
 * `allowed`: tables as SQL writes them, or null for all replicated ones.
 */
export async function loadCatalog(
  db: Queryable,
  ours: (text: string) => string,
  allowed: ReadonlySet<string> | null,
  previous: Catalog | null,
): Promise<Catalog> {
  const [row] = await db.query<{ tables: string | null }>(ours(CATALOG_QUERY), [], {
    action: "read the catalog of the replicated tables",
  });
  const text = row?.tables ?? "[]";
  return previous?.text === text ? previous : parseCatalog(text, allowed);
}

export function parseCatalog(text: string, allowed: ReadonlySet<string> | null): Catalog {
  // Names and types only: no row value is in here (I7).
  const all = JSON.parse(text) as readonly CatalogRow[];
  const keys = allowed && new Set([...allowed].map(keyOfName));
  const rows = keys === null ? all : all.filter((row) => keys.has(tableKey(row.schema, row.name)));
  const rank = parentsFirst(rows);
  const tables = new Map<string, TargetTable>();
  for (const row of rows) {
    const columns = new Map(row.columns.map((column) => [column.name, column]));
    tables.set(tableKey(row.schema, row.name), {
      tableId: row.id,
      schema: row.schema,
      name: row.name,
      sql: qualified(row.schema, row.name),
      label: row.label,
      key: row.key.flatMap((name) => columns.get(name) ?? []),
      stamp: row.stamp,
      policy: row.policy,
      stampedAs: row.stampedAs,
      columns,
      parents: row.parents ?? [],
      children: row.children ?? [],
      deferrableUnique: row.unique ?? [],
      rules: row.rules ?? [],
      hasIdentityAlways: row.columns.some((column) => column.identityAlways),
      partitioned: row.partitioned,
      rank: rank.get(tableKey(row.schema, row.name)) ?? 0,
      lateParents: lateParents(row, rank),
    });
  }
  return {
    text,
    tables,
    deferrable: rows.some((row) => row.deferrable),
    replicaForbidden: rows.map((row) => row.forbids).find((reason) => reason !== null) ?? null,
  };
}

/** `users`, `Users` and `public.users` are one table. */
export function keyOfName(name: string): string {
  const parsed = parseTableName(name);
  return parsed ? tableKey(parsed.schema, parsed.name) : "";
}

/** Those of `allowed` that are not under replication in this database. */
export function absentFrom(catalog: Catalog, allowed: ReadonlySet<string>): readonly string[] {
  return [...allowed].filter((name) => !catalog.tables.has(keyOfName(name)));
}

export function qualified(schema: string, name: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
}

/** Ranks: a parent before its children; tables of a cycle come last, in catalog order. */
function parentsFirst(rows: readonly CatalogRow[]): Map<string, number> {
  const waiting = new Map(rows.map((row) => [tableKey(row.schema, row.name), row]));
  const rank = new Map<string, number>();
  const isReady = (row: CatalogRow) =>
    (row.parents ?? []).every((fk) => {
      const parent = tableKey(fk.parentSchema, fk.parentTable);
      return parent === tableKey(row.schema, row.name) || !waiting.has(parent);
    });
  while (waiting.size > 0) {
    const ready = [...waiting].filter(([, row]) => isReady(row));
    for (const [key] of ready.length > 0 ? ready : [...waiting].slice(0, 1)) {
      rank.set(key, rank.size);
      waiting.delete(key);
    }
  }
  return rank;
}

function lateParents(row: CatalogRow, rank: ReadonlyMap<string, number>): ReadonlySet<string> {
  const own = rank.get(tableKey(row.schema, row.name)) ?? 0;
  const late = (row.parents ?? []).filter((fk) => (rank.get(tableKey(fk.parentSchema, fk.parentTable)) ?? -1) >= own);
  return new Set(late.map((fk) => fk.name));
}
