/** Keys and values that stand in the list of the other kind of table: said where they belong. */
import type { RawPath } from "./raw.ts";

const POLLED = "is of polled tables: list this table under non_critical_tables";
const CAPTURED = "is of tables that triggers capture: list this table under critical_tables, or leave it out";

const KEYS: Readonly<Record<string, string>> = {
  "critical_tables.sync_interval": POLLED,
  "critical_tables.stamp": POLLED,
  "critical_tables.delete_check_interval": POLLED,
  "non_critical_tables.capture": CAPTURED,
};

const VALUES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "critical_tables.replication_mode": { periodic: POLLED },
  "non_critical_tables.replication_mode": { trigger: CAPTURED },
};

/** What to say of an unknown key, or null. */
export function misplacedKey(path: RawPath): string | null {
  return KEYS[names(path)] ?? null;
}

/** What to say of a refused value, or null. */
export function misplacedValue(path: RawPath, value: unknown): string | null {
  return typeof value === "string" ? (VALUES[names(path)]?.[value] ?? null) : null;
}

function names(path: RawPath): string {
  return path.filter((step) => typeof step === "string").join(".");
}
