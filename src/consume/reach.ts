/**
 * Whether the target database answers, as far as the leases tell. A process that has lost its database and not the broker
 * would keep partitions that others could read: after a few seconds without an answer it gives its claims back to the
 * broker, and asks for claims again when the database has answered.
 */
import { Backoff } from "../core/backoff.ts";
import type { Clock } from "../core/clock.ts";
import { ReplicatorError } from "../core/errors.ts";
import type { Logger } from "../core/logger.ts";
import type { TargetStore } from "../core/target_store.ts";

export interface ReachOptions {
  readonly store: Pick<TargetStore, "ping">;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** So long a lease may be neither granted nor refused. Below its own time: who takes over waits for that as well. */
const AWAY_MS = 2_500;
/** A timer may ring a little before its time. */
const EARLY_MS = 20;
const PING_EVERY_MS = 500;
/** The pause before claims are asked for again: grows while a database comes and goes, so that partitions do not wander to and fro. */
const RETURN = { firstMs: 200, maxMs: 30_000 };
/** A database that has answered for so long counts as steady again. */
const STEADY_MS = 60_000;

export class Reach {
  readonly #options: ReachOptions;
  readonly #backoff = new Backoff(RETURN);
  #leaving = new AbortController();
  #returning: Promise<void> | null = null;
  #returnedAt = Number.NEGATIVE_INFINITY;
  #answeredAt = Number.NEGATIVE_INFINITY;
  /** Since when the calls without an answer had been waiting; null after an answer. */
  #failingSince: number | null = null;

  constructor(options: ReachOptions) {
    this.#options = options;
  }

  /** Aborts when the claims are to be given back; a new one after back(). */
  get leaving(): AbortSignal {
    return this.#leaving.signal;
  }

  /** Asks for a lease and takes note of whether there was an answer, "no" included. @throws what the call throws */
  async asking<T>(call: () => Promise<T>): Promise<T> {
    const { clock } = this.#options;
    const askedAt = clock.monotonic();
    const over = new AbortController();
    // One that waits, for a connection or an answer, is not waited for longer than one that fails.
    void clock.sleep(AWAY_MS + EARLY_MS, over.signal).then(() => {
      if (!over.signal.aborted) this.#judge(askedAt, null);
    });
    try {
      const answer = await call();
      this.#answeredAt = clock.monotonic();
      this.#failingSince = null;
      return answer;
    } catch (error) {
      this.#judge(askedAt, error);
      throw error;
    } finally {
      over.abort();
    }
  }

  /** Resolves when claims may be asked for: at once, or when the database that was left for away has answered. Never rejects on an outage. */
  async back(signal: AbortSignal): Promise<void> {
    if (!this.leaving.aborted) return;
    this.#returning ??= this.#return(signal).finally(() => {
      this.#returning = null;
    });
    await this.#returning;
  }

  /** A call asked at `askedAt` has no answer. */
  #judge(askedAt: number, error: unknown): void {
    this.#failingSince = Math.min(this.#failingSince ?? askedAt, askedAt);
    const since = Math.max(this.#answeredAt, this.#failingSince);
    if (this.#options.clock.monotonic() - since < AWAY_MS || this.leaving.aborted) return;
    this.#options.logger.warn(
      { code: error instanceof ReplicatorError ? error.code : undefined },
      "the target database does not answer; giving up what is read until it does, so that other consumers can read it",
    );
    this.#leaving.abort();
  }

  /** @throws ReplicatorError when waiting cannot help */
  async #return(signal: AbortSignal): Promise<void> {
    const { store, clock, logger } = this.#options;
    if (clock.monotonic() - this.#returnedAt > STEADY_MS) this.#backoff.reset();
    await clock.sleep(this.#backoff.next(), signal);
    while (!signal.aborted) {
      try {
        await store.ping(signal);
        break;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ReplicatorError && error.retry === "never") throw error;
        await clock.sleep(PING_EVERY_MS, signal);
      }
    }
    if (signal.aborted) return;
    logger.info({}, "the target database answers again; reading on");
    this.#returnedAt = clock.monotonic();
    this.#failingSince = null;
    this.#leaving = new AbortController();
  }
}
