/** A table that changed since its capture functions were made. */
import type { Finding, TableState } from "./admin.ts";

/** What to say about it and the command that mends it; null when the functions fit. */
export function staleTable({ table, state }: Pick<TableState, "table" | "state">): Finding | null {
  if (state === "ok") return null;
  return {
    severity: "blocking",
    code: "tables.stale",
    message: `Table ${table} needs its triggers made anew: ${state}`,
    remedy:
      state === "the table is gone"
        ? `Create it again, or: replicator tables remove ${table}`
        : `replicator tables add ${table}`,
  };
}
