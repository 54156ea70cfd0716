/** The tables of the simulated histories (tests/simulation/database/schema.ts) as a real database has them. */
import { TABLES, type TableDefinition } from "../../simulation/database/schema.ts";
import { POISON } from "../../simulation/workload/operations.ts";
import type { TableConfig } from "../harness.ts";

const quoted = (name: string) => `"${name}"`;

function ddlOf({ name, columns, unique, reference }: TableDefinition): string {
  const lines = columns.map((column) => {
    const type = column === "balance" ? "int" : "text";
    const own = unique.includes(column) ? " UNIQUE" : "";
    const parent =
      reference?.column === column
        ? ` REFERENCES ${quoted(reference.parent)} ON DELETE ${reference.onDelete.toUpperCase()}`
        : "";
    return `${quoted(column)} ${type}${own}${parent}`;
  });
  return `CREATE TABLE ${quoted(name)} (key text PRIMARY KEY, ${lines.join(", ")});`;
}

/**
 * All the tables, and what the application of these histories has in its database: a trigger that changes its own row
 * once more (the inner change is captured first, review B1).
 */
export const DDL = `${TABLES.map(ddlOf).join("\n")}
CREATE FUNCTION touch_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('history.twice', true) = 'on' AND pg_trigger_depth() = 1 THEN
    UPDATE items SET value = value || '+' WHERE key = NEW.key;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER a_touch_again AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION touch_again();`;

/** Only one contour has it until it is mended: what it refuses is parked there (B3). */
export const REFUSE_POISON = `ALTER TABLE items ADD CONSTRAINT no_poison CHECK (value NOT LIKE '${POISON}%')`;
export const ACCEPT_POISON = "ALTER TABLE items DROP CONSTRAINT IF EXISTS no_poison";

/** Half of the tables by the version, half by the clock, and one with a topic of its own. */
export const TABLE_CONFIG: readonly TableConfig[] = TABLES.map(({ name, topic }, n) => ({
  name,
  conflict: n % 2 === 0 ? "version" : "latest",
  ...(topic ? { topic } : {}),
}));

/** Table to its key, for the comparison. */
export const KEYS: Record<string, string> = Object.fromEntries(TABLES.map(({ name }) => [name, "key"]));
