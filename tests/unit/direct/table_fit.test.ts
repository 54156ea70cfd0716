import { expect, test } from "bun:test";
import type { ColumnShape, TableShape } from "../../../src/core/admin.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { refuseSameDatabase } from "../../../src/direct/same_database.ts";
import { targetFits } from "../../../src/direct/table_fit.ts";

const column = (name: string, type = "text", more: Partial<ColumnShape> = {}): ColumnShape => ({
  name,
  type,
  notNull: false,
  filled: false,
  generated: false,
  ...more,
});
const shape = (...columns: readonly ColumnShape[]): TableShape => ({
  columns: [column("id", "bigint"), ...columns],
  key: ["id"],
});

function fit(source: TableShape, target: TableShape | null, excluded: readonly string[] = []) {
  const labels = { sourceLabel: "postgres://s", targetLabel: "postgres://t" };
  return targetFits({ table: "users", source, target, ...labels, excluded, stamps: ["version"] });
}

function refusal(...args: Parameters<typeof fit>): string | undefined {
  try {
    fit(...args);
  } catch (error) {
    if (error instanceof ReplicatorError) return `${error.code} ${error.remedy}`;
  }
  return undefined;
}

test("a table of the same shape fits, whatever the order, stamps and generated columns", () => {
  const source = shape(
    column("a"),
    column("b"),
    column("version", "bigint"),
    column("sum", "int", { generated: true }),
  );
  expect(fit(source, shape(column("b"), column("a"), column("more")))).toEqual([]);
});

test("another type is a note, not a refusal", () => {
  expect(fit(shape(column("a", "integer")), shape(column("a", "bigint")))).toEqual([
    'note: column "a" of users is integer at the source and bigint at the target',
  ]);
});

test("what is missing comes as one statement to run", () => {
  expect(refusal(shape(column("a"), column('b"c', "numeric(10,2)")), shape())).toBe(
    'tables.target_differs Run there: ALTER TABLE users ADD COLUMN "a" text, ADD COLUMN "b""c" numeric(10,2)',
  );
});

test("a column that nothing fills must not be NOT NULL, also one that is excluded", () => {
  const needed = column("a", "text", { notNull: true });
  expect(refusal(shape(), shape(needed))).toContain('ALTER COLUMN "a" DROP NOT NULL');
  expect(refusal(shape(column("a")), shape(needed), ["a"])).toContain('ALTER COLUMN "a" DROP NOT NULL');
  expect(fit(shape(column("a")), shape(needed))).toEqual([]);
  expect(fit(shape(), shape({ ...needed, filled: true }))).toEqual([]);
  expect(fit(shape(column("a")), shape(), ["a"])).toEqual([]);
});

test("another key is refused", () => {
  expect(refusal(shape(column("a")), { ...shape(column("a")), key: [] })).toContain('ADD PRIMARY KEY ("id")');
  expect(refusal(shape(column("a")), { ...shape(column("a")), key: ["id", "a"] })).toContain("DROP CONSTRAINT");
});

test("no such table: the command that makes it", () => {
  expect(refusal(shape(), null)).toContain(
    "pg_dump --schema-only --no-owner --table='users' postgres://s | psql postgres://t",
  );
});

test("one database under two addresses is refused, two of one server are not", () => {
  const at = (label: string, database: string) => ({ label, database });
  expect(() => refuseSameDatabase(at("a", "7/16384"), at("b", "7/16384"))).toThrow("same database");
  expect(() => refuseSameDatabase(at("a", "7/16384"), at("b", "7/16385"))).not.toThrow();
});
