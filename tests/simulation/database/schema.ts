/** The tables every contour of a history has. A new kind of table is a line here; what is written to it, an operation. */
import type { ConflictPolicy } from "../../../src/core/stamp.ts";

export interface Reference {
  readonly column: string;
  readonly parent: string;
  readonly onDelete: "restrict" | "cascade" | "set null";
}

export interface TableDefinition {
  readonly name: string;
  /** Beside the key. */
  readonly columns: readonly string[];
  /** Columns of which no two rows may share a value, NULL apart. */
  readonly unique: readonly string[];
  readonly reference: Reference | null;
  /** Its own channel of events; null: the default channel of frames. */
  readonly topic: string | null;
}

const table = (name: string, columns: readonly string[], more: Partial<TableDefinition> = {}): TableDefinition => ({
  name,
  columns,
  unique: [],
  reference: null,
  topic: null,
  ...more,
});

const toParents = (onDelete: Reference["onDelete"]): Reference => ({ column: "parent", parent: "parents", onDelete });

/** Parents before their children. */
export const TABLES: readonly TableDefinition[] = [
  table("items", ["value"]),
  table("users", ["email", "phone", "value"], { unique: ["email", "phone"] }),
  table("parents", ["code", "value"], { unique: ["code"] }),
  table("children", ["parent", "value"], { reference: toParents("restrict") }),
  table("leaves", ["parent", "value"], { reference: toParents("cascade") }),
  table("notes", ["parent", "value"], { reference: toParents("set null") }),
  table("accounts", ["balance"]),
  table("events", ["value"], { topic: "events" }),
];

export const TOPIC = "events";

export function childrenOf(parent: string): readonly TableDefinition[] {
  return TABLES.filter(({ reference }) => reference?.parent === parent);
}

/** Which policy a table has in a history: all contours alike. */
export type Policies = Readonly<Record<string, ConflictPolicy>>;
