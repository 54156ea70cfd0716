import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { SQL_FILES } from "../../../../adapters/postgres/admin/sql_files.ts";

test("setup runs the very files of 00_master_setup.sql, in its order", () => {
  const master = readFileSync(join(import.meta.dir, "../../../../sql/00_master_setup.sql"), "utf8");
  const included = [...master.matchAll(/^\\ir (\S+)$/gm)].map((match) => String(match[1]));
  expect(SQL_FILES.map(({ name }) => name)).toEqual(included);
  for (const { name, text } of SQL_FILES) {
    expect(text).toBe(readFileSync(join(import.meta.dir, "../../../../sql", name), "utf8"));
    // Sent as one query: what only psql understands would be a syntax error.
    expect(text).not.toMatch(/^\\/m);
  }
});
