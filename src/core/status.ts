/** What /status, /ready and /metrics tell (interface §5): the API asks a source, the running process is one. */
import type { SnapshotStatus } from "./snapshot.ts";

export interface ChannelStatus {
  /** `active/changes` */
  readonly channel: string;
  readonly direction: "out" | "in";
  readonly kind: "frames" | "events";
  readonly partition: number | null;
  /** Epoch and last sequence number known to be confirmed (out) or applied (in). */
  readonly epoch: number | null;
  readonly sequence: number | null;
  readonly cut_no: number | null;
  readonly messages: number;
  readonly changes: number;
  /** True while this process owns it. */
  readonly active: boolean;
  /** Why it does not move, or null. */
  readonly trouble: string | null;
}

/** A configured table; with the fields of its polls where it is polled and a process with role sync answers. */
export interface TableStatus extends Partial<TableSync> {
  readonly table: string;
  readonly channel: string;
  readonly conflict: string;
  /** How its changes are noticed. */
  readonly mode?: "trigger" | "periodic" | undefined;
}

/** The polls of a table, by whichever process they are done. Times are ISO 8601. */
export interface TableSync {
  /** When the last run ended whose changes the broker has confirmed; null before the first. */
  readonly last_sync: string | null;
  /** When the last run ended. */
  readonly last_run: string | null;
  /** When this process asks for the next; null while the timer is another process's. */
  readonly next_sync: string | null;
  /** Changes of the last run. */
  readonly last_rows: number;
  /** A run is under way. */
  readonly polling: boolean;
  /** Why it does not get on, or null. */
  readonly trouble: string | null;
}

export interface StatusReport {
  /** Last captured queue id, decimal text; the name is the direct replicator's. */
  readonly last_lsn: string;
  /** When this process last published or applied something, ISO 8601; null before that. */
  readonly last_sync_time: string | null;
  readonly records_replicated: number;
  readonly error_count: number;
  readonly last_error: string | null;
  readonly is_running: boolean;
  readonly contour: string;
  readonly role: string;
  readonly broker: string;
  readonly version: string;
  readonly uptime_seconds: number;
  readonly lag_seconds: number;
  readonly lag_level: "ok" | "warning" | "critical";
  readonly unpublished: number;
  /** Dead letters included. */
  readonly parked: number;
  /** Of them those that wait for a person. */
  readonly dead: number;
  /** ISO 8601; null while nothing is parked. */
  readonly suspended_since: string | null;
  /** Invariants that do not hold meanwhile, in words; empty when all do. */
  readonly suspended: readonly string[];
  readonly conflicts: number;
  readonly alerts: readonly string[];
  readonly channels: readonly ChannelStatus[];
  readonly tables: readonly TableStatus[];
  /** The last snapshot of each table that had one, or the one under way (replicator snapshot). */
  readonly snapshots: readonly SnapshotStatus[];
}

export interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly string[];
  /** Invariants that do not hold while something is parked; no reason to be unready. */
  readonly suspended: readonly string[];
}

/** What is parked at this contour. */
export interface Suspension {
  readonly parked: number;
  readonly dead: number;
  readonly parkedSince: string | null;
  readonly parkedTables: readonly string[];
}

const MOST_TABLES = 10;

/** `I12 suspended since 2026-11-21T10:00:00Z: 3 parked changes in users, payments`; nothing while nothing is parked. */
export function suspendedBy({ parked, dead, parkedSince, parkedTables }: Suspension): readonly string[] {
  const all = parked + dead;
  if (all === 0) return [];
  const more = parkedTables.length > MOST_TABLES ? ` and ${parkedTables.length - MOST_TABLES} more` : "";
  const tables = parkedTables.slice(0, MOST_TABLES).join(", ") + more;
  const letters = dead > 0 ? ` (${dead} of them dead letters)` : "";
  return [
    `I12 suspended since ${parkedSince ?? "?"}: ${all} parked change${all === 1 ? "" : "s"}${letters} in ${tables}`,
  ];
}

export interface StatusSource {
  status(): Promise<StatusReport>;
  ready(): Promise<Readiness>;
  /** Prometheus text. */
  metrics(): Promise<string>;
}
