/** The numbers of one process instance (interface §5, GET /metrics). Its own registry: two instances in one process stay apart. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { StatusReport } from "./status.ts";

/** Seconds; from a single-row apply to a million-row transaction. */
const APPLY_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

const LAG_LEVELS = ["ok", "warning", "critical"] as const;

export interface MetricsOptions {
  readonly contour: string;
  readonly service: string;
}

export class Metrics {
  readonly #registry = new Registry();

  /** Changes confirmed by the broker. Label channel. */
  readonly publishedChanges = this.#counter("published_changes_total", "Changes confirmed by the broker", ["channel"]);
  readonly publishedMessages = this.#counter("published_messages_total", "Messages confirmed by the broker", [
    "channel",
  ]);
  readonly publishedBytes = this.#counter("published_bytes_total", "Bytes of messages confirmed by the broker", [
    "channel",
  ]);
  readonly publishFailures = this.#counter(
    "publish_failures_total",
    "Messages the broker did not confirm; they are sent again",
    ["channel"],
  );
  readonly cuts = this.#counter("cuts_total", "Cuts taken by this process");
  readonly releasedSlots = this.#counter("released_slots_total", "Queue slots emptied by this process");

  /** Label source: the contour the changes come from; channel. */
  readonly appliedChanges = this.#counter("applied_changes_total", "Changes applied to the database", [
    "source",
    "channel",
  ]);
  readonly beatenChanges = this.#counter("beaten_changes_total", "Changes that lost to a greater stamp", [
    "source",
    "channel",
  ]);
  readonly parkedTotal = this.#counter("parked_changes_total", "Changes set aside because they could not be applied", [
    "source",
    "channel",
  ]);
  readonly overriddenChanges = this.#counter(
    "overridden_changes_total",
    "Changes refused by a constraint and overridden by a captured change of this contour",
    ["source", "channel"],
  );
  /** Label winner: local, incoming. */
  readonly conflicts = this.#counter(
    "conflicts_total",
    "Incoming changes that met another contour's write they had not seen, and overrides",
    ["table", "policy", "winner"],
  );
  readonly tornTransactions = this.#counter(
    "torn_transactions_total",
    "Source transactions of which some rows were beaten by another contour and others applied",
    ["source", "channel"],
  );
  readonly applyTransactions = this.#counter("apply_transactions_total", "Target transactions committed", [
    "source",
    "channel",
  ]);
  readonly applySeconds = this.#histogram("apply_seconds", "Duration of a target transaction", APPLY_SECONDS);
  /** Label kind: new, duplicate, foreign. */
  readonly receivedMessages = this.#counter("received_messages_total", "Messages read from the broker", ["kind"]);

  /** Label table. */
  readonly syncRuns = this.#counter("sync_runs_total", "Polls of a table that ended", ["table"]);
  readonly syncRows = this.#counter("sync_rows_total", "Changes found by polls", ["table"]);
  readonly syncSeconds = this.#gauge("sync_last_seconds", "Duration of the last poll", ["table"]);

  readonly #lag = this.#gauge(
    "lag_seconds",
    "Age of the newest change applied, or of the oldest not published, whichever is more",
  );
  readonly #lagLevel = this.#gauge("lag_level", "1 for the level the lag has now", ["level"]);
  readonly #unpublished = this.#gauge("unpublished", "Changes captured and not confirmed by the broker");
  readonly #parked = this.#gauge("parked_changes", "Changes parked now, dead letters included");
  readonly #dead = this.#gauge("dead_letters", "Parked changes that wait for a person");
  readonly #suspended = this.#gauge(
    "i12_suspended",
    "1 while something is parked: whole transactions are not promised then",
  );
  readonly #suspendedSince = this.#gauge(
    "i12_suspended_since_seconds",
    "When the oldest parked change was parked, in seconds since 1970; 0 while nothing is",
  );
  readonly #conflictLines = this.#gauge("conflicts", "Lines of the conflict log; above 10,000 an estimate");
  readonly #running = this.#gauge("running", "1 while all loops run");
  readonly #errors = this.#gauge("errors_total", "Errors of the loops since the start");
  readonly #alerts = this.#gauge("alerts", "Alerts raised now");
  readonly #sequence = this.#gauge("channel_sequence", "Last sequence number confirmed (out) or applied (in)", [
    "channel",
    "direction",
    "partition",
  ]);
  readonly #memory = this.#gauge("process_resident_memory_bytes", "Resident memory of the process");
  readonly #uptime = this.#gauge("uptime_seconds", "Seconds since the start");
  readonly #info = this.#gauge("info", "Version and role of the process", ["version", "role", "broker"]);

  constructor(options: MetricsOptions) {
    this.#registry.setDefaultLabels({ contour: options.contour, service: options.service });
  }

  /** Prometheus text; the gauges are what `report` says. */
  async text(report: StatusReport): Promise<string> {
    this.#lag.set(report.lag_seconds);
    for (const level of LAG_LEVELS) this.#lagLevel.set({ level }, report.lag_level === level ? 1 : 0);
    this.#unpublished.set(report.unpublished);
    this.#parked.set(report.parked);
    this.#dead.set(report.dead);
    this.#suspended.set(report.suspended.length > 0 ? 1 : 0);
    this.#suspendedSince.set(report.suspended_since === null ? 0 : Date.parse(report.suspended_since) / 1_000);
    this.#conflictLines.set(report.conflicts);
    this.#running.set(report.is_running ? 1 : 0);
    this.#errors.set(report.error_count);
    this.#alerts.set(report.alerts.length);
    this.#uptime.set(report.uptime_seconds);
    this.#info.set({ version: report.version, role: report.role, broker: report.broker }, 1);
    this.#memory.set(process.memoryUsage().rss);
    this.#sequence.reset();
    for (const { channel, direction, partition, sequence } of report.channels) {
      if (sequence !== null) this.#sequence.set({ channel, direction, partition: String(partition ?? 0) }, sequence);
    }
    return await this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  #counter<T extends string>(name: string, help: string, labelNames: readonly T[] = []): Counter<T> {
    return new Counter({ name: `replicator_${name}`, help, labelNames: [...labelNames], registers: [this.#registry] });
  }

  #gauge<T extends string>(name: string, help: string, labelNames: readonly T[] = []): Gauge<T> {
    return new Gauge({ name: `replicator_${name}`, help, labelNames: [...labelNames], registers: [this.#registry] });
  }

  #histogram(name: string, help: string, buckets: readonly number[]): Histogram {
    return new Histogram({ name: `replicator_${name}`, help, buckets: [...buckets], registers: [this.#registry] });
  }
}
