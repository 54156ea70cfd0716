/** The two files a DBA reads first: the example, and the advice for tables that exist already. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { openAdmin } from "../../adapters/postgres/admin/admin.ts";
import { GENERATED_TABLES } from "../../src/core/admin.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { ROOT } from "../../tools/cache.mjs";
import { describeWith } from "../support/needs.ts";
import { freshSetup, texts } from "./database.ts";

setDefaultTimeout(120_000);

function psql(url: string, file: string): { code: number | null; out: string; said: string } {
  const done = spawnSync("psql", ["-X", "-d", url, "-f", join(ROOT, "sql", file)], { encoding: "utf8" });
  return { code: done.status, out: done.stdout, said: done.stderr };
}

describeWith(["postgres", "psql"], "the example", () => {
  test("03_setup_example.sql sets up what the generator writes to", async () => {
    const db = await freshSetup();
    const admin = openAdmin({ url: db.url, logger: silentLogger });
    try {
      const { code, said } = psql(db.url, "03_setup_example.sql");
      expect([code, said]).toEqual([0, expect.stringContaining("captured as expected")]);
      const { signal } = new AbortController();
      // They are the generator's already: it makes none and adds none.
      expect(await admin.prepareGenerator(signal, GENERATED_TABLES)).toEqual([]);
      const stop = new AbortController();
      const totals = await admin.generate(
        { rate: 200, connections: 1, tables: GENERATED_TABLES, onProgress: () => stop.abort() },
        stop.signal,
      );
      expect(totals.inserted).toBeGreaterThan(0);
      for (const table of GENERATED_TABLES) {
        expect(await texts(db.sql, `SELECT (count(*) > 0)::text FROM ${table}`)).toEqual(["true"]);
      }
    } finally {
      await admin.close();
      await db.close();
    }
  });
});

describeWith(["postgres", "psql"], "the advice for existing tables", () => {
  test("04_migrate_existing_tables.sql: its survey and every statement it advises run", async () => {
    const statements = advised(readFileSync(join(ROOT, "sql/04_migrate_existing_tables.sql"), "utf8"));
    expect(statements.length).toBe(7);
    for (const statement of statements) {
      const db = await freshSetup();
      try {
        // As the source designs made their columns; the advice about other names is for columns that mean something else.
        const columns = statement.includes('"columns"')
          ? "version int, updated_at timestamp"
          : "version bigint DEFAULT 1, updated_at timestamptz, updated_by varchar(50)";
        await db.run(`CREATE TABLE users (id bigint PRIMARY KEY, name text, ${columns}); CREATE TABLE keyless (a int);
                      INSERT INTO users (id, name) VALUES (1, 'a'), (2, 'b')`);
        const survey = psql(db.url, "04_migrate_existing_tables.sql");
        expect([survey.code, survey.said]).toEqual([0, ""]);
        expect(survey.out).toMatch(/users .*\| id .*NULL/);
        expect(survey.out).toContain("NONE: add a primary key");
        if (statement.includes("remove_table")) await db.run("SELECT setup_table_for_replication('users')");
        await db.run(statement);
        if (statement.startsWith("UPDATE")) {
          expect(await texts(db.sql, "SELECT (count(*) = 0)::text FROM users WHERE updated_by IS NULL")).toEqual([
            "true",
          ]);
          await db.run("SELECT setup_table_for_replication('users')");
        }
      } finally {
        await db.close();
      }
    }
  });
});

/** What the comments advise: lines set in by six blanks, up to a semicolon. */
function advised(text: string): string[] {
  const lines = text
    .split("\n")
    .flatMap((line) => /^--(?: {6}| \d\. [^:]*: (?=SELECT|UPDATE))(.*)$/.exec(line)?.[1] ?? []);
  return lines
    .join("\n")
    .split(/;\s*(?:\n|$)/)
    .map((statement) => statement.trim())
    .filter((statement) => /^(SELECT|UPDATE)/.test(statement));
}
