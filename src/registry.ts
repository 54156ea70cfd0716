/** Adapters by name: the one place, besides the composition in run.ts, that knows which there are. */
import { createKafkaBroker } from "../adapters/kafka/broker.ts";
import { createMemoryBroker } from "../adapters/memory/broker.ts";
import { MemoryHub } from "../adapters/memory/hub.ts";
import { createNatsBroker } from "../adapters/nats/broker.ts";
import { openAdmin } from "../adapters/postgres/admin/admin.ts";
import type { DatabaseOptions } from "../adapters/postgres/connection.ts";
import { createSourceStore } from "../adapters/postgres/source/store.ts";
import { createSyncSource } from "../adapters/postgres/source/sync_source.ts";
import { createTargetStore } from "../adapters/postgres/target/store.ts";
import type { Config, TlsText } from "./config/config.ts";
import { databaseAddress } from "./config/database_address.ts";
import { tablesOf } from "./config/tables.ts";
import type { Admin } from "./core/admin.ts";
import type { Broker } from "./core/broker.ts";
import type { Clock } from "./core/clock.ts";
import type { Logger } from "./core/logger.ts";
import type { SourceStore } from "./core/source_store.ts";
import type { SyncSource } from "./core/sync_source.ts";
import type { TargetStore } from "./core/target_store.ts";

export interface BrokerContext {
  readonly logger: Logger;
  readonly clock: Clock;
  /** What the memory brokers of one process share. */
  readonly hub?: MemoryHub | undefined;
}

/** Bytes a broker client may hold per claim (I11). */
const BUFFER_BYTES = 4 * 1024 * 1024;

/** Makes the broker's client; nothing connects before the first call. */
export function openBroker(config: Config, context: BrokerContext): Broker {
  const { logger, clock } = context;
  const shared = { logger: logger.child({ broker: config.broker }), clock, bufferBytes: BUFFER_BYTES };
  const name = `${config.service.name}-${config.service.contour}`;
  switch (config.broker) {
    case "direct":
      throw new RangeError("Direct mode has no broker");
    case "memory":
      return createMemoryBroker({ hub: context.hub ?? new MemoryHub(), clock });
    case "kafka": {
      const { brokers, ssl, sasl, topic } = config.kafka;
      return createKafkaBroker({
        ...shared,
        clientId: name,
        brokers,
        ssl: ssl === undefined ? undefined : given(ssl),
        sasl,
        topic: {
          replicationFactor: topic.replication_factor,
          minInsyncReplicas: topic.min_insync_replicas,
          retentionMs: topic.retention,
        },
      });
    }
    case "nats": {
      const { servers, user, password, token, nkey, credentials_file, tls, stream, replicas, domain, retention } =
        config.nats;
      return createNatsBroker({
        ...shared,
        name,
        contour: config.service.contour,
        servers,
        user,
        password,
        token,
        nkey,
        credentialsFile: credentials_file,
        tls,
        stream,
        replicas,
        domain,
        retentionMs: retention,
      });
    }
  }
}

/** Without the keys that are undefined. */
function given(tls: TlsText): { ca?: string; cert?: string; key?: string } {
  return Object.fromEntries(Object.entries(tls).filter(([, text]) => text !== undefined));
}

/** application_name of everything but apply, whose name is the consumer's mark (interface §3). */
const APPLICATION_NAME = "replicator";

function databaseOptions(config: Config): Omit<DatabaseOptions, "logger"> {
  return { ...databaseAddress(config), schema: config.database.schema, applicationName: APPLICATION_NAME };
}

export function openSource(config: Config, logger: Logger, clock: Clock): SourceStore {
  return createSourceStore({ database: databaseOptions(config), contour: config.service.contour, logger, clock });
}

/** Nothing connects before the first call. */
export function openSync(config: Config, logger: Logger, clock: Clock): SyncSource {
  return createSyncSource({ database: databaseOptions(config), logger, clock });
}

export function openTarget(config: Config, logger: Logger, clock: Clock): TargetStore {
  const { consumer } = config;
  const tables = tablesOf(config);
  return createTargetStore({
    database: databaseOptions(config),
    tables: tables.length > 0 ? tables.map(({ name }) => name) : null,
    contours: consumer.from,
    leaveUnique: tables.filter((table) => table.on_unique_conflict === "park").map(({ name }) => name),
    stopOnError: tables.filter((table) => table.on_error === "stop").map(({ name }) => name),
    parking: { maxAttempts: consumer.max_attempts, entries: consumer.parked_limit, bytes: consumer.parked_bytes },
    session: consumer.session,
    maxSkewMs: consumer.max_skew,
    conflictRetentionMs: consumer.conflict_log_retention,
    logger,
    clock,
  });
}

/** @param max connections at a time */
export function openAdministration(config: Config, logger: Logger, max: number): Admin {
  return openAdmin({ ...databaseAddress(config), schema: config.database.schema, max, logger });
}
