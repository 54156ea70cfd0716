/** Whether the target's table can take the rows of the source's: compared before anything is changed at either. */
import type { ColumnShape, TableShape } from "../core/admin.ts";
import { ReplicatorError } from "../core/errors.ts";

export interface TableFitOptions {
  /** As SQL writes it. */
  readonly table: string;
  readonly source: TableShape;
  /** Null: there is no such table. */
  readonly target: TableShape | null;
  readonly sourceLabel: string;
  readonly targetLabel: string;
  /** Columns that are not replicated. */
  readonly excluded: readonly string[];
  /** Columns that are added at both. */
  readonly stamps: readonly string[];
}

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

/**
 * Returns what a person should know though it does not hinder.
 * @throws ReplicatorError `tables.target_missing`, `tables.target_differs` with the DDL to run
 */
export function targetFits(options: TableFitOptions): readonly string[] {
  const { table, source, target, sourceLabel, targetLabel, excluded, stamps } = options;
  if (!target) {
    throw refused(
      "tables.target_missing",
      `Cannot add table ${table}: there is no such table in the target ${targetLabel}`,
      `Make it there as it is at the source: pg_dump --schema-only --no-owner --table='${table}' ${sourceLabel} | psql ${targetLabel}`,
    );
  }
  const absent = new Set([...excluded, ...stamps]);
  const sent = source.columns.filter(({ name, generated }) => !generated && !absent.has(name));
  const ddl = [...missing(sent, target), ...unfilled([...sent.map(({ name }) => name), ...stamps], target)];
  if (source.key.length > 0 && target.key.join() !== source.key.join()) {
    const drop = target.key.length > 0 ? "DROP CONSTRAINT <its primary key>, " : "";
    ddl.push(`${drop}ADD PRIMARY KEY (${source.key.map(quoted).join(", ")})`);
  }
  if (ddl.length > 0) {
    throw refused(
      "tables.target_differs",
      `Cannot add table ${table}: it cannot take the source's rows in the target ${targetLabel}`,
      `Run there: ALTER TABLE ${table} ${ddl.join(", ")}`,
    );
  }
  return sent.flatMap(({ name, type }) => {
    const other = target.columns.find((column) => column.name === name);
    if (!other || other.type === type) return [];
    return [`note: column ${quoted(name)} of ${table} is ${type} at the source and ${other.type} at the target`];
  });
}

function missing(sent: readonly ColumnShape[], target: TableShape): string[] {
  const there = new Set(target.columns.map(({ name }) => name));
  return sent.filter(({ name }) => !there.has(name)).map(({ name, type }) => `ADD COLUMN ${quoted(name)} ${type}`);
}

/** Columns of the target that no change brings, that must have a value, and that nothing fills. */
function unfilled(brought: readonly string[], target: TableShape): string[] {
  return target.columns
    .filter(({ name, notNull, filled, generated }) => notNull && !filled && !generated && !brought.includes(name))
    .map(({ name }) => `ALTER COLUMN ${quoted(name)} DROP NOT NULL`);
}

function refused(code: string, message: string, remedy: string): ReplicatorError {
  return new ReplicatorError({ code, message, retry: "never", fault: "environment", remedy });
}
