/** Puts a history's world together: databases, broker, processes and sessions, and what goes wrong with them. */

import type { Channel } from "../../src/core/channel.ts";
import type { Message } from "../../src/core/message.ts";
import { BrokerPort } from "./broker/port.ts";
import { BrokerServer } from "./broker/server.ts";
import { Chaos } from "./chaos.ts";
import type { Observer, Watched } from "./checks/check.ts";
import { Database } from "./database/database.ts";
import { sendSnapshot } from "./database/local.ts";
import { Row } from "./database/row.ts";
import { RULES } from "./database/rules.ts";
import { TABLES } from "./database/schema.ts";
import { SourceServer } from "./database/source.ts";
import { SourcePort } from "./database/source_port.ts";
import { SqlError } from "./database/sql_error.ts";
import { TargetServer } from "./database/target.ts";
import { TargetPort } from "./database/target_port.ts";
import type { Work } from "./database/task.ts";
import { runEngine } from "./engine.ts";
import { Host } from "./kernel/host.ts";
import { Network, NO_HAZARDS } from "./kernel/network.ts";
import { Random } from "./kernel/random.ts";
import type { Scheduler } from "./kernel/scheduler.ts";
import type { Planted } from "./planted/planted.ts";
import type { Profile } from "./profile.ts";
import type { Tally } from "./tally.ts";
import { POISON } from "./workload/operations.ts";
import { runSession } from "./workload/session.ts";

export interface WorldOptions {
  readonly seed: number;
  readonly profile: Profile;
  readonly planted: Planted;
  readonly scheduler: Scheduler;
  readonly observers: readonly Observer[];
  readonly tally: Tally;
  fail(check: string, found: string): void;
  trace(line: () => string): void;
}

export interface Site {
  readonly db: Database;
  readonly source: SourceServer;
  readonly target: TargetServer;
}

/** A stop takes no longer than this, in virtual ms: several of the latest answers one after the other. */
const STOP_MS = 60_000;
const OLD_KEYS = 3;

export class World {
  readonly sites: readonly Site[];
  readonly watched: Watched;
  readonly #options: WorldOptions;
  readonly #broker: BrokerServer;
  readonly #network: Network;
  readonly #chaos: Chaos;
  readonly #fates: Random;
  #running = 0;
  #healed = false;
  #overridesAt = 0;

  constructor(options: WorldOptions) {
    this.#options = options;
    const { seed, profile, scheduler, tally, trace } = options;
    this.#fates = new Random(seed, "fates");
    this.sites = profile.contours.map((contour) => this.#site(contour));
    const databases = this.sites.map(({ db }) => db);
    this.watched = { profile, databases, parkedAt: (contour) => this.#siteOf(contour).target.inbox.size };
    this.#chaos = new Chaos({ scheduler, random: new Random(seed, "chaos"), profile, databases, tally, trace });
    this.#network = new Network({
      scheduler,
      random: this.#fates,
      hazards: () => (this.#healed ? NO_HAZARDS : profile.database),
      isDown: (server) => this.#chaos.isDown(server),
      trace,
    });
    const groups = profile.contours;
    const { sharedTopics, deduplicates, dropsAcknowledged } = profile;
    this.#broker = new BrokerServer({
      sharedTopics,
      deduplicates,
      dropsAcknowledged,
      readers: (log) => groups.filter((group) => !log.startsWith(`${group}.`)),
      onStored: (channel: Channel, message: Message) => this.#tell((observer) => observer.stored?.(channel, message)),
      onDelivered: (again) => this.#tell((observer) => observer.delivered?.(again)),
      onAcknowledged: (group, records) => this.#tell((observer) => observer.acknowledged?.(group, records)),
    });
  }

  /** Starts processes, sessions and what goes wrong. */
  start(): void {
    const { profile, scheduler, seed } = this.#options;
    this.#seedRows();
    this.sites.forEach((site, place) => {
      for (let n = 1; n <= profile.hosts; n++) this.#startHost(site, `${site.db.contour}${n}`, 1);
      const sessions = profile.oneWriter && place > 0 ? 0 : profile.sessions;
      for (let n = 1; n <= sessions; n++) {
        const name = `${site.db.contour}:${n}`;
        const random = new Random(seed, `session ${name}`);
        this.#run(site, name, runSession({ db: site.db, profile, random, name, isFirstContour: place === 0 }));
      }
    });
    this.#chaos.start();
    scheduler.after(1, null, () => undefined);
  }

  /** Sessions are done, and what was to go wrong has gone wrong. */
  get isLoaded(): boolean {
    return this.#running === 0 && this.#chaos.isOver;
  }

  /** From now on nothing goes wrong. What was refused for a reason is mended; old rows are sent. */
  heal(): void {
    this.#options.trace(() => "HEALED");
    this.#healed = true;
    this.#chaos.end();
    if (this.#options.profile.oldRows !== "different") return;
    for (const site of this.sites) this.#run(site, `${site.db.contour}:snapshot`, snapshot(site.db));
  }

  /** A transaction under way; null when there is none. */
  get open(): string | null {
    const [open] = this.sites.flatMap(({ db }) => [...db.open]);
    return open ? `${open.label} is open` : null;
  }

  /** Why the world is not at rest; null when it is, but for what is open or what the contours have not read. */
  get restless(): string | null {
    if (this.#running > 0) return "sessions are at work";
    for (const { db, source, target } of this.sites) {
      if (source.due) return `${db.contour} has a cut to take`;
      for (const channel of source.channels) {
        const { confirmedCut } = source.state(channel, 1);
        // Cuts without messages of the channel are recorded later.
        if (source.cuts.slice(confirmedCut).some((cut) => source.rowsOf(cut, channel).length > 0))
          return `${db.contour}/${channel} is confirmed up to cut ${confirmedCut} of ${source.cuts.length}`;
      }
      if (target.inbox.size > 0) return `${db.contour} keeps parked: ${target.inbox.names.join("; ")}`;
      if (db.secondLooks.size > 0) return `${db.contour} has deletions to look at again`;
    }
    return null;
  }

  get changes(): number {
    return this.sites.reduce((sum, { db }) => sum + db.queue.all.length, 0);
  }

  get overrides(): number {
    return this.sites.reduce((sum, { db }) => sum + db.queue.all.filter(({ override }) => override).length, 0);
  }

  /** Whether apply has captured something in the last seconds. */
  get captured(): "lately" | "not lately" {
    return this.#options.scheduler.now - this.#overridesAt < 10_000 ? "lately" : "not lately";
  }

  #site(contour: string): Site {
    const { profile, scheduler, trace, planted } = this.#options;
    const db = new Database({
      contour,
      scheduler,
      random: this.#fates,
      policies: profile.policies,
      stampsBeforeWaiting: planted.stampsBeforeWaiting ?? false,
      onCommit: (transaction) => {
        if (transaction.captured.some(({ override }) => override)) this.#overridesAt = scheduler.now;
        if (transaction.touched.size > 0) this.#tell((observer) => observer.committed?.(db));
      },
      trace: (line) => trace(() => `${contour} | ${line()}`),
    });
    const source = new SourceServer({
      db,
      idCursor: planted.idCursor ?? false,
      onCut: (cut) => this.#tell((observer) => observer.cutTaken?.(db, cut)),
    });
    const target = new TargetServer({
      db,
      rules: { ...RULES, ...planted.rules },
      refuses: ({ values }) =>
        !this.#healed && contour === profile.contours[1] && values.value?.startsWith(POISON) === true,
      onApplied: (applied) => this.#tell((observer) => observer.applied?.(applied)),
      onSettled: (where, change, outcome) => this.#tell((observer) => observer.settled?.(where, change, outcome)),
    });
    return { db, source, target };
  }

  #startHost(site: Site, name: string, life: number): void {
    const { profile, scheduler, planted, tally, fail, trace } = this.#options;
    const { contour } = site.db;
    const host = new Host(`${name}.${life}`, scheduler);
    const shared = { host, network: this.#network, scheduler, random: this.#fates };
    const source = new SourcePort({ ...shared, server: site.source });
    const ports = {
      broker: new BrokerPort({
        ...shared,
        server: this.#broker,
        hazards: () => (this.#healed ? { ...NO_HAZARDS, duplicated: 0, unclaimed: 0 } : profile.broker),
        isDown: () => this.#chaos.isDown("broker"),
        lagMs: () => (this.#healed ? 1 : profile.lagMs),
        acknowledgesEarly: planted.acknowledgesEarly ?? false,
        trace,
      }),
      source: planted.source?.(source, site.source, host) ?? source,
      target: new TargetPort({ ...shared, server: site.target }),
    };
    const { frameBytes, sendBatch, applyBatch, pollIntervalMs, partitions } = profile;
    const from = profile.contours.filter((other) => other !== contour);
    const settings = { contour, from, frameBytes, sendBatch, applyBatch, pollIntervalMs, partitions };
    let ended = false;
    scheduler.after(0, host, () => {
      runEngine(host, settings, ports).then(
        () => {
          ended = true;
          trace(() => `${host.name} has stopped`);
          host.kill();
        },
        (error: unknown) => {
          trace(() => `${host.name} ended: ${error instanceof Error ? error.stack : String(error)}`);
          fail("alive", `${host.name} ended: ${String(error)}`);
        },
      );
    });
    const overdue = () => {
      const left = host.frozenUntil + STOP_MS - scheduler.now;
      // A process without a processor cannot stop: its time counts from when it has one again.
      if (left > 0) scheduler.after(left, null, overdue);
      else if (!ended && host.alive) fail("stops", `${host.name} was asked to stop ${STOP_MS / 1_000} s ago`);
    };
    host.signal.addEventListener("abort", () => scheduler.after(STOP_MS, null, overdue));
    host.atDeath(() => {
      if (!ended) tally.add("crashes");
      this.#chaos.gone(host);
      scheduler.after(this.#chaos.pauseBeforeRestart(), null, () => this.#startHost(site, name, life + 1));
    });
    this.#chaos.alive(host);
  }

  #run(site: Site, name: string, work: Work<void>): void {
    const { scheduler, fail } = this.#options;
    this.#running++;
    scheduler.after(0, null, () => {
      site.db.run(work, {
        done: () => {
          this.#running--;
        },
        failed: (error) => fail("model", `Session ${name}: ${error instanceof Error ? error.stack : String(error)}`),
      });
    });
  }

  /** Rows older than setup: one stamp for all, whatever they hold. */
  #seedRows(): void {
    const { profile } = this.#options;
    if (profile.oldRows === "none") return;
    const [items] = TABLES;
    if (!items) return;
    const stamp = { version: 1n, updatedAt: 0n, updatedBy: "" };
    for (const { db } of this.sites) {
      for (let n = 1; n <= Math.min(OLD_KEYS, profile.keys); n++) {
        const value = profile.oldRows === "same" ? "old" : `old at ${db.contour}`;
        db.row(items, `k${n}`).seed(new Row(`k${n}`, stamp, { value }));
      }
    }
  }

  #siteOf(contour: string): Site {
    const site = this.sites.find(({ db }) => db.contour === contour);
    if (!site) throw new Error(`There is no contour "${contour}"`);
    return site;
  }

  #tell(what: (observer: Observer) => void): void {
    for (const observer of this.#options.observers) what(observer);
  }
}

function* snapshot(db: Database): Work<void> {
  const [items] = TABLES;
  for (;;) {
    const tx = db.begin(`${db.contour}:snapshot`);
    try {
      if (items) yield* sendSnapshot(db, tx, items);
      db.commit(tx);
      return;
    } catch (error) {
      if (!(error instanceof SqlError)) throw error;
      db.rollback(tx);
    }
    yield { pauseMs: 100 };
  }
}
