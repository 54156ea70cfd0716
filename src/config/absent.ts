/** What the interface names and this version does not have yet: refused by name, never parsed and ignored. */
import type { RawPath } from "./raw.ts";

const KEYS: Readonly<Record<string, string>> = {
  non_critical_tables: "periodic sync",
  sync: "periodic sync",
  target: "direct mode",
  "critical_tables.sync_interval": "periodic sync",
  "critical_tables.stamp": "periodic sync",
};

const VALUES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  role: { sync: "periodic sync" },
  "critical_tables.replication_mode": { periodic: "periodic sync" },
};

/** The feature an unknown key belongs to, or null. */
export function absentKey(path: RawPath): string | null {
  return KEYS[names(path)] ?? null;
}

/** The feature a refused value belongs to, or null. */
export function absentValue(path: RawPath, value: unknown): string | null {
  return typeof value === "string" ? (VALUES[names(path)]?.[value] ?? null) : null;
}

export function absentMessage(feature: string): string {
  return `comes with ${feature}, which this version does not have: leave it out`;
}

function names(path: RawPath): string {
  return path.filter((step) => typeof step === "string").join(".");
}
