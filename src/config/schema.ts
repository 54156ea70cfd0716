/** Every option of the program, declared once (interface §2). Durations come out in milliseconds, sizes in bytes. */
import { z } from "zod";
import { choice, duration, list, option, secret, size, text, tls, whole } from "./leaf.ts";
import { criticalTable, nonCriticalTable } from "./table_schema.ts";

/** Name of a site. */
export const CONTOUR = /^[a-z0-9_-]{1,32}$/;

const service = z
  .strictObject({
    name: text("Name of this service in logs and metrics").default("replicator-service"),
    contour: option(
      z.string().regex(CONTOUR),
      "1 to 32 of the characters a-z, 0-9, _ and -",
      "Name of this site; each site has its own",
      { example: "active" },
    ).optional(),
    shutdown_timeout: duration("How long a stop may take before it is forced").prefault("30s"),
  })
  .prefault({});

const path = (description: string) => text(description, { example: "/etc/replicator/file.pem" });

/** Where a database is and how to connect. */
const address = {
  url: option(
    z.string().regex(/^postgres(ql)?:\/\/./),
    "postgres://user@host:port/name?sslmode=verify-full",
    "Where the database is; the parts below win over those of the URL",
    { example: "postgres://replicator@db/app?sslmode=verify-full" },
  ).optional(),
  host: text("Host name, address, or directory of a Unix socket", { example: "db" }).optional(),
  port: whole(1, 65_535, "Port", { example: "5432" }).optional(),
  name: text("Name of the database", { example: "app" }).optional(),
  user: text("Role to connect as", { example: "replicator" }).optional(),
  password: secret("Its password").optional(),
  sslmode: choice(
    ["disable", "prefer", "require", "verify-ca", "verify-full"],
    "As libpq has it; only verify-ca and verify-full verify the server",
    { example: "verify-full" },
  ).optional(),
  sslrootcert: path("PEM file of the authorities that may sign the server's certificate").optional(),
  sslcert: path("PEM file of our certificate").optional(),
  sslkey: path("PEM file of its private key").optional(),
};

const schemaName = () =>
  option(z.string().min(1).max(63), "a schema name", "Schema of the replicator's objects").default("replicator");

const database = z
  .strictObject({
    ...address,
    schema: schemaName(),
    compat_schema: option(
      z
        .string()
        .min(1)
        .max(63)
        .transform((value) => (value === "off" || value === "none" ? null : value)),
      "a schema name, or off",
      "Schema of the thin views and functions with the names of the source designs; off = none",
    ).prefault("public"),
    columns: z
      .strictObject({
        version: text("Column of a row's version").default("version"),
        updated_at: text("Column of a row's time of change").default("updated_at"),
        updated_by: text("Column of the contour that changed a row").default("updated_by"),
      })
      .prefault({}),
  })
  .prefault({});

/** The second database of direct mode. */
const target = z
  .strictObject({
    ...address,
    schema: schemaName(),
    contour: option(
      z.string().regex(CONTOUR),
      "1 to 32 of the characters a-z, 0-9, _ and -",
      "Name of the target database's contour; unset: <service.contour>-target",
      { example: "active-target" },
    ).optional(),
  })
  .optional();

const kafka = z
  .strictObject({
    brokers: list("addresses host:port", "Kafka brokers to begin with", {
      pattern: /^(\[[0-9a-fA-F:]+\]|[^\s:,/]+):\d{1,5}$/,
      example: "[kafka-1:9092]",
    }).default([]),
    ssl: tls("Kafka").optional(),
    sasl: z
      .strictObject({
        mechanism: choice(["plain", "scram-sha-256", "scram-sha-512"], "How to authenticate", {
          example: "scram-sha-256",
        }),
        username: text("User name", { example: "replicator" }),
        password: secret("Password"),
      })
      .optional(),
    topic: z
      .strictObject({
        partitions: whole(
          1,
          1_000,
          "Partitions of a table's own topic when we make it; the default channel has one",
        ).default(1),
        replication_factor: whole(
          1,
          15,
          "Copies of a topic when we make it; unset: 3, or as many as there are brokers",
          {
            example: "3",
          },
        ).optional(),
        min_insync_replicas: whole(1, 15, "Copies that confirm a message; unset: 2 of 3 copies, else 1", {
          example: "2",
        }).optional(),
        retention: duration("How long a topic keeps messages when we make it").prefault("7d"),
      })
      .prefault({}),
  })
  .prefault({});

const nats = z
  .strictObject({
    servers: list("addresses nats://host:port", "NATS servers to begin with", {
      pattern: /^((nats|tls):\/\/)?[^\s,/]+$/,
      example: "[nats://nats-1:4222]",
    }).default([]),
    user: text("User name", { example: "replicator" }).optional(),
    password: secret("Password").optional(),
    token: secret("Token, instead of user and password").optional(),
    nkey: option(z.string().regex(/^SU[A-Z2-7]{56}$/), "the seed of an nkey (SU…)", "Seed of an nkey", {
      secret: true,
    }).optional(),
    credentials_file: text("A .creds file; read again at each connection", {
      example: "/etc/replicator/replicator.creds",
    }).optional(),
    tls: tls("NATS").optional(),
    stream: option(
      z.string().regex(/^[A-Za-z0-9_-]{1,100}$/),
      "letters, digits, _ and -",
      "Stream names begin with it: <stream>_<contour>",
    ).default("replicator"),
    replicas: whole(1, 5, "Copies of a stream; unset: 3 in a cluster of three servers or more, else 1", {
      example: "3",
    }).optional(),
    domain: text("JetStream domain, when it has one", { example: "hub" }).optional(),
    retention: duration("How long a stream keeps messages").prefault("7d"),
  })
  .prefault({});

const consumer = z
  .strictObject({
    group: text("Kafka consumer group and name of NATS durables; unset: replicator-consumer-<contour>", {
      example: "replicator-consumer-active",
    }).optional(),
    batch_size: whole(1, 100_000, "Most messages applied in one target transaction, unless one transaction has more", {
      aliases: ["BATCH_SIZE"],
    }).default(1_000),
    from: list("contours", "The contours whose changes are accepted", {
      pattern: CONTOUR,
      example: "[passive]",
    }).default([]),
    max_skew: duration("A change dated further ahead of our clock than this is parked").prefault("1h"),
    max_attempts: whole(
      1,
      1_000_000,
      "Attempts after which a parked change is a dead letter; what DDL would mend is tried for ever",
    ).default(100),
    parked_limit: whole(0, 100_000_000, "Changes that may be parked; one more stops its channel").default(100_000),
    parked_bytes: size(0, 1e15, "0B or more", "Bytes of changes that may be parked").prefault("256MB"),
    conflict_log_retention: duration("How long the conflict log keeps a line").prefault("30d"),
    session: choice(
      ["auto", "replica", "origin"],
      "session_replication_role while applying; auto: replica where it is allowed",
    ).default("auto"),
  })
  .prefault({});

export const ROLES = ["publisher", "consumer", "sync"] as const;
export type Role = (typeof ROLES)[number];

/** A configuration file. Every key can also come from the environment or a flag. */
export const fileSchema = z.strictObject({
  role: option(
    z.array(z.enum([...ROLES, "all"])),
    "publisher, consumer, sync or all",
    "What this process does; all: every role that has work here",
  ).default(["all"]),
  service,
  database,
  target,
  broker: choice(["kafka", "nats", "memory"], "What joins the contours; memory lives in one process only", {
    example: "kafka",
  }).optional(),
  kafka,
  nats,
  critical_tables: option(
    z.array(criticalTable),
    "a list of tables",
    "Tables captured by triggers; no table named at all: those put under replication in the database, all in the default channel",
  ).default([]),
  non_critical_tables: option(
    z.array(nonCriticalTable),
    "a list of tables",
    "Tables that are polled; how: docs/periodic_sync.md",
  ).default([]),
  publisher: z
    .strictObject({
      poll_interval: duration("Longest wait between two looks at the queue; busy, it looks every few milliseconds", {
        aliases: ["POLL_INTERVAL"],
      }).prefault("100ms"),
      batch_size: whole(1, 100_000, "Messages handed to the broker at a time", { aliases: ["BATCH_SIZE"] }).default(
        500,
      ),
      frame_size: size(
        1_000,
        900_000,
        "from 1kB to 900kB",
        "Changes are packed into messages of about this size",
      ).prefault("256kB"),
    })
    .prefault({}),
  consumer,
  sync: z
    .strictObject({
      overlap: duration(
        "stamp application: how far behind the database's clock those of the applications may be",
      ).prefault("10s"),
      batch_size: whole(1, 100_000, "Most rows a poll puts into the queue in one transaction").default(1_000),
    })
    .prefault({}),
  queue: z
    .strictObject({
      retention: duration("How long confirmed changes stay in the queue").prefault("7d"),
      warn_size: size(1, 1e15, "more than nothing", "`check` warns when the queue is larger").prefault("1GB"),
    })
    .prefault({}),
  generator: z
    .strictObject({
      interval: duration("Pause of `generate` between two rounds of writes when no rate is given", {
        aliases: ["GENERATION_INTERVAL"],
      }).prefault("2s"),
    })
    .prefault({}),
  alerts: z
    .strictObject({
      lag_warning: duration("Lag from which on /status says warning").prefault("10s"),
      lag_critical: duration("Lag from which on /status says critical").prefault("30s"),
      unpublished: whole(
        1,
        1_000_000_000,
        "Changes waiting to be published from which on /status raises an alert",
      ).default(1_000),
      error_rate: option(
        z.number().min(0).max(1),
        "a number from 0 to 1",
        "Share of failed sends and parked changes from which on /status raises an alert",
      ).default(0.01),
    })
    .prefault({}),
  api: z
    .strictObject({
      host: text("Address to listen on").default("127.0.0.1"),
      port: whole(0, 65_535, "Port; 0 takes a free one and logs it").default(8080),
      token: secret("Asked for as `Authorization: Bearer …`; required when host is not loopback").optional(),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: choice(["debug", "info", "warn", "error"], "Least severe that is logged").default("info"),
      format: choice(["json", "pretty"], "Unset: pretty on a terminal, else json", { example: "json" }).optional(),
    })
    .prefault({}),
});

export type FileConfig = z.output<typeof fileSchema>;
