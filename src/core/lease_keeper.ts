/**
 * Keeps a lease alive while its owner works (architecture §4.3). The work asks `validFor(ms)` before each step that
 * must end before the lease does: sending stops at expiry minus the send deadline.
 */
import type { Clock } from "./clock.ts";
import { ReplicatorError } from "./errors.ts";
import type { Lease } from "./lease.ts";
import type { Logger } from "./logger.ts";

export interface LeaseKeeperOptions {
  readonly what: string;
  readonly ttlMs: number;
  /** Takes or renews; null when another owner holds it. */
  acquire(): Promise<Lease | null>;
  release(lease: Lease): Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** One who waits for a lease asks so often during its time: that is how late he may notice that it has run out. */
const ASKS = 8;

export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  #lease: Lease | null = null;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  /**
   * Waits until the lease is ours, runs `work` under it, gives it back. `work` gets a signal that aborts when the lease
   * is lost or `signal` aborts. Returns what the work returned, or undefined when `signal` aborted first.
   * @param elsewhere called each time another owner turns out to hold it: whoever waits has no trouble of his own
   */
  async hold<T>(
    signal: AbortSignal,
    work: (held: HeldLease, lost: AbortSignal) => Promise<T>,
    elsewhere: () => void = () => undefined,
  ): Promise<T | undefined> {
    const { clock, logger, ttlMs, what } = this.#options;
    while (!signal.aborted) {
      const lease = await this.#options.acquire();
      if (!lease) {
        elsewhere();
        await clock.sleep(ttlMs / ASKS, signal);
        continue;
      }
      logger.debug({ lease: what, term: lease.term }, "lease taken");
      return await this.#holding(lease, signal, work);
    }
    return undefined;
  }

  async #holding<T>(first: Lease, signal: AbortSignal, work: (held: HeldLease, lost: AbortSignal) => Promise<T>) {
    const { clock, logger, what } = this.#options;
    this.#lease = first;
    const lost = new AbortController();
    const finished = new AbortController();
    const renewing = this.#renew(AbortSignal.any([finished.signal, signal]), lost);
    const held: HeldLease = {
      lost: lost.signal,
      get: () => {
        const lease = this.#lease;
        if (!lease || lost.signal.aborted) throw leaseLost(what);
        return lease;
      },
      require: (ms) => {
        const lease = held.get();
        if (lease.expiresAt - clock.monotonic() < ms) throw leaseLost(what);
      },
    };
    try {
      return await work(held, AbortSignal.any([lost.signal, signal]));
    } finally {
      finished.abort();
      await renewing;
      const last: Lease | null = this.#lease;
      this.#lease = null;
      if (last && !lost.signal.aborted) {
        // A lease that cannot be given back runs out by itself: nothing is lost but a few seconds.
        await this.#options.release(last).catch((error: unknown) => {
          logger.debug({ lease: what, error: String(error) }, "lease could not be given back; it will run out");
        });
      }
    }
  }

  async #renew(until: AbortSignal, lost: AbortController): Promise<void> {
    const { clock, logger, ttlMs, what } = this.#options;
    for (;;) {
      await clock.sleep(ttlMs / 4, until);
      if (until.aborted) return;
      const expiresAt = this.#lease?.expiresAt ?? 0;
      const asking = this.#options.acquire();
      const answered = new AbortController();
      try {
        // A server that does not answer must not make us believe in the lease for longer than it lasts.
        const left = Math.max(0, expiresAt - clock.monotonic());
        const expired = clock.sleep(left, answered.signal).then(() => "expired" as const);
        // Also after a stop: the lease is given back then, and a renewal under way must not come after that.
        const renewed = await Promise.race([asking, expired]);
        if (renewed === "expired") {
          asking.catch(() => undefined);
          logger.debug({ lease: what }, "lease ran out before its renewal was answered");
          lost.abort();
          return;
        }
        if (!renewed || renewed.term !== this.#lease?.term) {
          logger.warn({ lease: what }, "lease lost to another process");
          lost.abort();
          return;
        }
        this.#lease = renewed;
      } catch (error) {
        // The database is away: the work goes on until the lease runs out, and its own calls will tell it sooner.
        logger.debug({ lease: what, error: String(error) }, "lease could not be renewed");
        if (expiresAt <= clock.monotonic()) {
          lost.abort();
          return;
        }
      } finally {
        answered.abort();
      }
    }
  }
}

export interface HeldLease {
  /** Aborted when the lease has run out or is another's: what waits for the database then waits in vain. */
  readonly lost: AbortSignal;
  /** The lease as last renewed. @throws ReplicatorError `lease.lost` */
  get(): Lease;
  /** @throws ReplicatorError `lease.lost` when it would run out within `ms` */
  require(ms: number): void;
}

export function leaseLost(what: string): ReplicatorError {
  return new ReplicatorError({
    code: "lease.lost",
    message: `Lost the lease of ${what}; another process has it or will take it`,
    retry: "now",
    fault: "environment",
  });
}
