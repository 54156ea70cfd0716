/** What goes wrong beside calls: processes killed, frozen, stopped; servers away; clocks stepped. */
import type { Database } from "./database/database.ts";
import type { Host } from "./kernel/host.ts";
import type { Random } from "./kernel/random.ts";
import type { Scheduler } from "./kernel/scheduler.ts";
import type { Profile } from "./profile.ts";
import type { Tally } from "./tally.ts";

export interface ChaosOptions {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly profile: Profile;
  readonly databases: readonly Database[];
  readonly tally: Tally;
  trace(line: () => string): void;
}

/** Everything begins within this time, in ms. */
const WITHIN_MS = 4_000;
const LONGEST_OUTAGE_MS = 8_000;
const LONGEST_FREEZE_MS = 14_000;
const LONGEST_ABSENCE_MS = 8_000;
const LONGEST_STEP_MS = 2_000;

export class Chaos {
  readonly #options: ChaosOptions;
  readonly #hosts = new Set<Host>();
  readonly #downUntil = new Map<string, number>();
  #pending = 0;
  #ended = false;

  constructor(options: ChaosOptions) {
    this.#options = options;
  }

  start(): void {
    const { kills, stops, freezes, brokerOutages, databaseOutages, clockSteps } = this.#options.profile.chaos;
    const { random, profile, databases, tally, trace } = this.#options;
    for (const db of databases) db.skewMs = random.between(-profile.skewMs, profile.skewMs);
    this.#times(kills, () => {
      const host = this.#anyHost();
      trace(() => `KILL ${host?.name}`);
      host?.kill();
    });
    this.#times(stops, () => {
      const host = this.#anyHost();
      trace(() => `STOP ${host?.name}`);
      host?.stop();
      tally.add("stops");
    });
    this.#times(freezes, () => {
      const host = this.#anyHost();
      const ms = random.between(300, LONGEST_FREEZE_MS) * profile.tempo;
      tally.add("freezes");
      trace(() => `FREEZE ${host?.name} for ${ms.toFixed(0)} ms`);
      host?.freeze(ms);
    });
    this.#times(brokerOutages, () => this.#takeDown("broker"));
    this.#times(databaseOutages, () => this.#takeDown(`database ${random.pick(databases).contour}`));
    this.#times(clockSteps, () => {
      const db = random.pick(databases);
      db.skewMs += random.between(-LONGEST_STEP_MS, LONGEST_STEP_MS);
      tally.add("clock steps");
      trace(() => `CLOCK of ${db.contour} is off by ${db.skewMs.toFixed(0)} ms`);
    });
  }

  isDown(server: string): boolean {
    return this.#options.scheduler.now < (this.#downUntil.get(server) ?? 0);
  }

  get isOver(): boolean {
    return this.#pending === 0;
  }

  /** What is away comes back. */
  end(): void {
    this.#ended = true;
    this.#downUntil.clear();
    for (const host of this.#hosts) host.thaw();
  }

  alive(host: Host): void {
    this.#hosts.add(host);
  }

  gone(host: Host): void {
    this.#hosts.delete(host);
  }

  /** In ms. */
  pauseBeforeRestart(): number {
    return this.#ended ? 10 : this.#options.random.next() ** 2 * LONGEST_ABSENCE_MS * this.#options.profile.tempo;
  }

  #times(count: number, act: () => void): void {
    const { scheduler, random, profile } = this.#options;
    for (let n = 0; n < count; n++) {
      this.#pending++;
      scheduler.after(random.between(0, WITHIN_MS) * profile.tempo, null, () => {
        this.#pending--;
        act();
      });
    }
  }

  #anyHost(): Host | undefined {
    const hosts = [...this.#hosts];
    return hosts.length > 0 ? this.#options.random.pick(hosts) : undefined;
  }

  #takeDown(server: string): void {
    const { scheduler, random, profile, trace } = this.#options;
    const ms = random.next() ** 2 * LONGEST_OUTAGE_MS * profile.tempo;
    this.#options.tally.add("outages");
    trace(() => `AWAY ${server} for ${ms.toFixed(0)} ms`);
    this.#downUntil.set(server, scheduler.now + ms);
  }
}
