/** The configuration as the engine sees it: complete, checked, TLS files of the brokers read to text. */
import type { FileConfig, Role } from "./schema.ts";

export type { Role } from "./schema.ts";

/** `direct`: a target database is configured, and no broker stands between. */
export type BrokerKind = "kafka" | "nats" | "memory" | "direct";

/**
 * Durations are milliseconds, sizes bytes. `kafka.ssl` and `nats.tls` hold PEM text; an empty object there means TLS
 * with the system's authorities, undefined means none. `database.sslrootcert/sslcert/sslkey` stay paths: they are read
 * at each connect.
 */
export interface Config extends Omit<FileConfig, "role" | "broker" | "service" | "consumer" | "non_critical_tables"> {
  /** Without duplicates, `all` resolved. Empty where the command runs no role. */
  readonly roles: readonly Role[];
  /** `memory` where the command needs no broker and none is configured. */
  readonly broker: BrokerKind;
  /** `contour` is '' where the command does not need it and it is not configured. */
  readonly service: FileConfig["service"] & { readonly contour: string };
  readonly consumer: FileConfig["consumer"] & { readonly group: string };
  readonly non_critical_tables: readonly (FileConfig["non_critical_tables"][number] & { readonly topic: string })[];
}

export type TableConfig = Config["critical_tables"][number];
export type PolledTableConfig = Config["non_critical_tables"][number];
export type TlsText = NonNullable<Config["kafka"]["ssl"]>;
