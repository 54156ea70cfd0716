/** Runs one of the engine's endless loops: a failure that waiting can mend is logged once and retried for ever (I8). */
import { Backoff } from "./backoff.ts";
import type { Clock } from "./clock.ts";
import { isAbort, ReplicatorError } from "./errors.ts";
import type { Logger } from "./logger.ts";

export interface LoopHealth {
  readonly name: string;
  /** Null while the loop moves; else why it does not. */
  trouble: string | null;
  /** Counted since the start. */
  errors: number;
  lastError: string | null;
}

export interface LoopOptions {
  readonly name: string;
  readonly health: LoopHealth;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** One life of the loop: returns when done with (it is called again) or throws. Calls `moving()` on each progress. */
  body(moving: () => void): Promise<void>;
}

/** An error that asks to be tried again at once is no event; so many within the time are a stall that nobody would see. */
const QUIET_ERRORS = 10;
const QUIET_TIME_MS = 30_000;

/** Returns when the signal aborts. @throws what `retry: "never"` errors and programming errors say */
export async function runLoop(options: LoopOptions): Promise<void> {
  const { health, clock, logger, signal } = options;
  const backoff = new Backoff({ firstMs: 50, maxMs: 5_000 });
  let quiet: number[] = [];
  const moving = () => {
    backoff.reset();
    if (health.trouble !== null) {
      logger.info({ loop: options.name }, `${options.name}: going on again`);
      health.trouble = null;
    }
  };
  while (!signal.aborted) {
    try {
      await options.body(moving);
    } catch (error) {
      if (signal.aborted || isAbort(error)) continue;
      if (!(error instanceof ReplicatorError) || error.retry === "never") throw error;
      if (error.retry === "now" && backoff.attempts === 0) {
        logger.debug({ loop: options.name, code: error.code }, error.message);
        const now = clock.monotonic();
        quiet = [...quiet.filter((at) => now - at < QUIET_TIME_MS), now];
        if (quiet.length >= QUIET_ERRORS) {
          const facts = { loop: options.name, code: error.code, ...error.facts, times: quiet.length };
          logger.warn(facts, `${options.name}: ${error.message}; again and again`);
          quiet = [];
        }
      } else {
        health.errors++;
        health.lastError = error.message;
        // Said once per outage, not once per attempt.
        if (health.trouble !== error.message) {
          logger.warn(
            { loop: options.name, code: error.code, ...error.facts },
            `${options.name}: ${error.message}; trying on`,
          );
          health.trouble = error.message;
        }
      }
      await clock.sleep(backoff.next(), signal);
    }
  }
}

/** The loops of one process: the first that cannot go on calls `stop` for all; its error is the process's. */
export class Loops {
  readonly #signal: AbortSignal;
  readonly #stop: () => void;
  readonly #running: Promise<void>[] = [];
  #failure: { readonly error: unknown } | null = null;

  /** @param signal aborted when the loops are to end, by `stop` as well */
  constructor(signal: AbortSignal, stop: () => void) {
    this.#signal = signal;
    this.#stop = stop;
  }

  /** Takes loops as they start: one may fail while the next is still waiting for its server. */
  add(...loops: readonly Promise<void>[]): void {
    for (const loop of loops) {
      this.#running.push(
        loop.catch((error: unknown) => {
          if (this.#signal.aborted && isAbort(error)) return;
          this.#failure ??= { error };
          this.#stop();
        }),
      );
    }
  }

  /** Resolves when all have ended. @throws the first failure */
  async ended(): Promise<void> {
    await Promise.all(this.#running);
    this.throwIfFailed();
  }

  throwIfFailed(): void {
    if (this.#failure) throw this.#failure.error;
  }
}
