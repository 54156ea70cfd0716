/** What one process knows of itself: counters of its loops, cached answers of its servers. Source of /status, /ready, /metrics. */
import type { Config } from "./config/config.ts";
import type { Clock } from "./core/clock.ts";
import { ReplicatorError } from "./core/errors.ts";
import type { LoopHealth } from "./core/loop.ts";
import type { SnapshotStatus } from "./core/snapshot.ts";
import {
  type ChannelStatus,
  type Readiness,
  type StatusReport,
  type StatusSource,
  suspendedBy,
  type TableStatus,
  type TableSync,
} from "./core/status.ts";
import type { TargetCounts } from "./core/target_store.ts";

/** What the stores say, read when somebody asks. */
export interface StoreCounts extends TargetCounts {
  readonly unpublished: number;
  readonly oldestSeconds: number;
  readonly lastQueueId: string;
  readonly snapshots: readonly SnapshotStatus[];
}

/** Before the stores are open. */
export const NO_COUNTS: StoreCounts = {
  unpublished: 0,
  oldestSeconds: 0,
  lastQueueId: "0",
  parked: 0,
  dead: 0,
  conflicts: 0,
  parkedSince: null,
  parkedTables: [],
  snapshots: [],
};

export interface ProcessStatusOptions {
  readonly config: Config;
  readonly version: string;
  readonly clock: Clock;
  readonly tables: readonly TableStatus[];
  counts(): Promise<StoreCounts>;
  metricsText(report: StatusReport): Promise<string>;
}

/** A lag measured longer ago than this says nothing about now: nothing has arrived since. */
const LAG_FRESH_MS = 5_000;
/** The stores are waited for no longer than this; a probe of /ready less long, and with what was said a second ago. */
const COUNTS_DEADLINE_MS = 2_000;
const READY_DEADLINE_MS = 500;
const READY_FRESH_MS = 1_000;

export class ProcessStatus implements StatusSource {
  readonly #startedAt: number;
  readonly #health = new Map<string, LoopHealth>();
  readonly #channels = new Map<string, ChannelStatus>();
  /** Name of a server → why it does not answer; absent before the first answer. */
  readonly #servers = new Map<string, string | null>();
  readonly #syncs = new Map<string, TableSync>();
  #options: ProcessStatusOptions;
  #starting: string | null = "starting";
  #replicated = 0;
  #lastSync: number | null = null;
  #lag: { seconds: number; at: number } | null = null;
  #lastCounts: StoreCounts = NO_COUNTS;
  #countedAt = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | null = null;

  constructor(options: ProcessStatusOptions) {
    this.#options = options;
    this.#startedAt = options.clock.monotonic();
  }

  /** What is not done yet of the start; null when all loops run. */
  set starting(reason: string | null) {
    this.#starting = reason;
  }

  /** How to ask the stores, once they are open. */
  set counts(counts: () => Promise<StoreCounts>) {
    this.#options = { ...this.#options, counts };
  }

  /** The record of a loop, made on first use. */
  health(name: string): LoopHealth {
    let health = this.#health.get(name);
    if (!health) {
      health = { name, trouble: null, errors: 0, lastError: null };
      this.#health.set(name, health);
    }
    return health;
  }

  server(name: string, trouble: string | null): void {
    this.#servers.set(name, trouble);
  }

  channel(status: ChannelStatus): void {
    this.#channels.set(`${status.direction} ${status.channel} ${status.partition}`, status);
  }

  channelOf(direction: "in" | "out", channel: string, partition: number | null): ChannelStatus | undefined {
    return this.#channels.get(`${direction} ${channel} ${partition}`);
  }

  /** What is known of the polls of a table. */
  sync(table: string, change: Partial<TableSync>): void {
    const before = this.#syncs.get(table) ?? {
      last_sync: null,
      last_run: null,
      next_sync: null,
      last_rows: 0,
      polling: false,
      trouble: null,
    };
    this.#syncs.set(table, { ...before, ...change });
  }

  /** Changes published or applied just now; the lag in seconds where it was measured. */
  moved(changes: number, lagSeconds: number | null): void {
    const { clock } = this.#options;
    this.#replicated += changes;
    this.#lastSync = clock.now();
    if (lagSeconds !== null) this.#lag = { seconds: Math.max(0, lagSeconds), at: clock.monotonic() };
  }

  get replicated(): number {
    return this.#replicated;
  }

  async status(): Promise<StatusReport> {
    const { config, version, clock, tables } = this.#options;
    const counts = await this.#ask(COUNTS_DEADLINE_MS);
    const healths = [...this.#health.values()];
    const errors = healths.reduce((sum, { errors: some }) => sum + some, 0);
    const lag = this.#lagSeconds(counts);
    const { alerts } = config;
    const level =
      lag * 1_000 >= alerts.lag_critical ? "critical" : lag * 1_000 >= alerts.lag_warning ? "warning" : "ok";
    return {
      last_lsn: counts.lastQueueId,
      last_sync_time: this.#lastSync === null ? null : new Date(this.#lastSync).toISOString(),
      records_replicated: this.#replicated,
      error_count: errors,
      last_error: healths.map(({ lastError }) => lastError).findLast((error) => error !== null) ?? null,
      is_running: this.#starting === null,
      contour: config.service.contour,
      role: config.roles.join(","),
      broker: config.broker,
      version,
      uptime_seconds: Math.floor((clock.monotonic() - this.#startedAt) / 1_000),
      lag_seconds: Math.round(lag * 1_000) / 1_000,
      lag_level: level,
      unpublished: counts.unpublished,
      parked: counts.parked + counts.dead,
      dead: counts.dead,
      suspended_since: counts.parkedSince,
      suspended: suspendedBy(counts),
      conflicts: counts.conflicts,
      alerts: this.#alerts(counts, lag, errors),
      channels: [...this.#channels.values()].map((channel) => ({
        ...channel,
        trouble: this.#troubleOf(channel),
      })),
      tables: tables.map((table) => this.#withSync(table)),
      snapshots: counts.snapshots,
    };
  }

  async ready(): Promise<Readiness> {
    const reasons: string[] = [];
    if (this.#starting !== null) reasons.push(this.#starting);
    for (const [name, trouble] of this.#servers) if (trouble !== null) reasons.push(`${name}: ${trouble}`);
    for (const { name, trouble } of this.#health.values()) if (trouble !== null) reasons.push(`${name}: ${trouble}`);
    const fresh = this.#options.clock.monotonic() - this.#countedAt < READY_FRESH_MS;
    const counts = fresh ? this.#lastCounts : await this.#ask(READY_DEADLINE_MS);
    return { ready: reasons.length === 0, reasons, suspended: suspendedBy(counts) };
  }

  async metrics(): Promise<string> {
    return this.#options.metricsText(await this.status());
  }

  /** /status answers while the database is away: with the last counts. That it is away the watch over it says, on /ready. */
  async #ask(deadlineMs: number): Promise<StoreCounts> {
    const answered = new AbortController();
    this.#asking ??= this.#count().finally(() => {
      this.#asking = null;
    });
    // Whoever still waits for it gets its error; when nobody does, the next one asks anew.
    this.#asking.catch(() => undefined);
    try {
      await Promise.race([this.#asking, this.#options.clock.sleep(deadlineMs, answered.signal)]);
    } finally {
      answered.abort();
    }
    return this.#lastCounts;
  }

  async #count(): Promise<void> {
    const { counts, clock } = this.#options;
    try {
      this.#lastCounts = await counts();
      this.#countedAt = clock.monotonic();
    } catch (error) {
      if (!(error instanceof ReplicatorError)) throw error;
    }
  }

  #lagSeconds(counts: StoreCounts): number {
    const fresh = this.#lag && this.#options.clock.monotonic() - this.#lag.at < LAG_FRESH_MS ? this.#lag.seconds : 0;
    return Math.max(counts.unpublished > 0 ? counts.oldestSeconds : 0, fresh);
  }

  #alerts(counts: StoreCounts, lag: number, errors: number): string[] {
    const { alerts } = this.#options.config;
    const raised: string[] = [];
    if (lag * 1_000 >= alerts.lag_warning) raised.push(`lag is ${lag.toFixed(1)} s`);
    if (counts.unpublished >= alerts.unpublished) raised.push(`${counts.unpublished} changes are not published`);
    const failing = errors + counts.parked + counts.dead;
    if (failing > 0 && failing / (failing + this.#replicated) >= alerts.error_rate)
      raised.push(`${failing} errors and parked changes`);
    return raised;
  }

  #withSync(status: TableStatus): TableStatus {
    const known = this.#syncs.get(status.table);
    const trouble = this.#health.get(`sync of ${status.table}`)?.trouble ?? null;
    return known ? { ...status, ...known, trouble } : status;
  }

  /** The loop of a channel bears its name: that of the sender, and of what a consumer says about one partition. */
  #troubleOf({ channel, direction, partition, trouble }: ChannelStatus): string | null {
    const name = direction === "out" ? `publisher of ${channel}` : `channel ${channel}[${partition}]`;
    return this.#health.get(name)?.trouble ?? trouble;
  }
}
