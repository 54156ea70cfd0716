/** The configured tables of both kinds as one list: the closed list of what is replicated (I10). */
import { DEFAULT_CHANNEL } from "../core/channel.ts";
import type { Config } from "./config.ts";

type Critical = Config["critical_tables"][number];
type Polled = Config["non_critical_tables"][number];

/** `capture` is "none" for a polled table: no trigger captures its changes. */
export type ReplicatedTable = Pick<
  Critical,
  "name" | "topic" | "primary_key" | "conflict" | "on_unique_conflict" | "on_error" | "exclude_columns"
> & {
  readonly capture: Critical["capture"] | "none";
  readonly stamp?: Polled["stamp"] | undefined;
  readonly columns?: Polled["columns"] | undefined;
};

/** Captured tables first. */
export function tablesOf(config: Pick<Config, "critical_tables" | "non_critical_tables">): readonly ReplicatedTable[] {
  return [
    ...config.critical_tables,
    ...config.non_critical_tables.map((table) => ({ ...table, capture: "none" as const })),
  ];
}

/** The name of the channel a table's changes travel in. */
export function channelNameOf({ topic }: Pick<ReplicatedTable, "topic">): string {
  return topic ?? DEFAULT_CHANNEL;
}

/** `products` → `products_changes_periodic`, as the source design has it; what no topic may hold becomes `_`. */
export function periodicTopic(table: string): string {
  return `${table.replaceAll('"', "").replace(/[^A-Za-z0-9._-]/g, "_")}_changes_periodic`;
}
