/** What /status, /ready and /metrics tell (interface §5): the API asks a source, the running process is one. */

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

export interface TableStatus {
  readonly table: string;
  readonly channel: string;
  readonly conflict: string;
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
  readonly parked: number;
  readonly conflicts: number;
  readonly alerts: readonly string[];
  readonly channels: readonly ChannelStatus[];
  readonly tables: readonly TableStatus[];
}

export interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly string[];
}

export interface StatusSource {
  status(): Promise<StatusReport>;
  ready(): Promise<Readiness>;
  /** Prometheus text. */
  metrics(): Promise<string>;
}
