/** The entries of critical_tables and non_critical_tables. */
import { z } from "zod";
import { choice, duration, list, option, text } from "./leaf.ts";

/** A Kafka topic's name; on NATS part of a subject. */
const TOPIC = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}$/;

/** A table under replication, captured by triggers. */
export const criticalTable = z.strictObject({
  name: text('Table as SQL writes it: users, sales.orders, "My Schema"."Order"', { example: "users" }),
  topic: option(
    z
      .string()
      .regex(TOPIC)
      .refine((name) => name !== "changes" && name !== "control"),
    "letters, digits, '.', '_' and '-', other than changes and control",
    "A channel of its own: one event a message, keyed by primary key; leave out for the default channel",
    { example: "users_changes" },
  ).optional(),
  primary_key: list("column names", "Must be the table's primary key; default: from the catalog", {
    example: "[id]",
  }).optional(),
  replication_mode: choice(["trigger"], "How changes are noticed").default("trigger"),
  conflict: choice(["version", "latest"], "Which change wins: the greater version, or the later one").default(
    "version",
  ),
  on_unique_conflict: choice(
    ["remove_loser", "park"],
    "Two contours gave one unique value to different rows: the row with the lower stamp is removed, or the change parked",
  ).default("remove_loser"),
  on_error: choice(
    ["park", "stop"],
    "A change that cannot be applied is set aside and tried again, or stops its channel before its transaction",
  ).default("park"),
  capture: choice(
    ["auto", "row", "statement"],
    "Row triggers are cheaper for single rows, statement triggers in bulk",
  ).default("auto"),
  exclude_columns: list("column names", "Columns that are not replicated", { example: "[]" }).default([]),
});

/** A table under replication that is polled. */
export const nonCriticalTable = z.strictObject({
  name: text('Table as SQL writes it: products, sales.orders, "My Schema"."Order"', { example: "products" }),
  topic: option(
    z
      .string()
      .regex(TOPIC)
      .refine((name) => name !== "changes" && name !== "control"),
    "letters, digits, '.', '_' and '-', other than changes and control",
    "Its own channel: one event a message, keyed by primary key; unset: <name>_changes_periodic",
    { example: "products_changes_periodic" },
  ).optional(),
  primary_key: criticalTable.shape.primary_key,
  replication_mode: choice(["periodic"], "How changes are noticed").default("periodic"),
  sync_interval: duration("From the beginning of one poll to the next; the first is made at the start").prefault("5m"),
  stamp: choice(
    ["trigger", "application"],
    "Who writes the stamp columns; application: no trigger of ours stands on the table (docs/periodic_sync.md)",
  ).default("trigger"),
  columns: z
    .strictObject({
      version: text("Column of a row's version").optional(),
      updated_at: text("Column of a row's time of change").optional(),
      updated_by: text("Column of the contour that changed a row").optional(),
    })
    .optional(),
  delete_check_interval: duration(
    "stamp application: how often the keys are compared to find rows that were deleted; reads the whole table",
  ).prefault("1h"),
  conflict: choice(["version", "latest"], "Which change wins: the greater version, or the later one").default("latest"),
  on_unique_conflict: criticalTable.shape.on_unique_conflict,
  on_error: criticalTable.shape.on_error,
  exclude_columns: criticalTable.shape.exclude_columns,
});
