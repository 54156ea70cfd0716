/** What a claim's reader knows of channels that stopped, from one reading to the next. */
import { Backoff } from "../core/backoff.ts";
import { type Channel, channelLabel } from "../core/channel.ts";
import type { Clock } from "../core/clock.ts";
import type { ReplicatorError } from "../core/errors.ts";
import type { Logger } from "../core/logger.ts";
import type { LoopHealth } from "../core/loop.ts";
import { isHalt } from "./stops.ts";

export interface StoppedChannelsOptions {
  readonly feed: string;
  readonly partition: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Health record by its name; made on first use. */
  health(name: string): LoopHealth;
}

interface Stopped {
  readonly backoff: Backoff;
  readonly health: LoopHealth;
}

/** A channel that stopped is tried again from the ledger's position, in case its messages were brought back. */
const RETRY = { firstMs: 2_000, maxMs: 60_000 };
/** One whose next transaction the target must not take yet: somebody is mending that, and waits for it. */
const RETRY_HALTED = { firstMs: 500, maxMs: 5_000 };
/** The whole log is read again at once, in case the position is wrong rather than the log, and then seldom: a log can be long. */
const REWIND = { firstMs: 600_000, maxMs: 3_600_000 };

export class StoppedChannels {
  readonly #options: StoppedChannelsOptions;
  readonly #stopped = new Map<string, Stopped>();
  readonly #rewinds = new Backoff(REWIND);
  #rewindAt = 0;
  #rewind = false;

  constructor(options: StoppedChannelsOptions) {
    this.#options = options;
  }

  /** Whether the next reading begins at the earliest message; asked once for each. */
  takeRewind(): boolean {
    const rewind = this.#rewind;
    this.#rewind = false;
    return rewind;
  }

  /** Says so, and returns how many milliseconds the channel rests; 0 before the whole log was read again. */
  stopped(channel: Channel, error: ReplicatorError): number {
    const { feed, partition, clock, logger, health } = this.#options;
    const where = `${feed}[${partition}]`;
    let known = this.#stopped.get(channel.contour);
    const halted = isHalt(error);
    if (!halted && (!known || clock.monotonic() >= this.#rewindAt)) {
      this.#rewind = true;
      this.#rewindAt = clock.monotonic() + this.#rewinds.next();
      logger.info({ feed: where, code: error.code }, "reading the log again from its earliest message");
    }
    if (!known) {
      const name = `channel ${channelLabel(channel)}[${partition}]`;
      known = { backoff: new Backoff(halted ? RETRY_HALTED : RETRY), health: health(name) };
      this.#stopped.set(channel.contour, known);
      if (!halted) return 0;
    }
    const trouble = halted ? `${error.code}: ${error.message}` : error.message;
    known.health.errors++;
    known.health.lastError = error.message;
    if (known.health.trouble !== trouble)
      logger.error({ feed: where, code: error.code, ...error.facts, remedy: error.remedy }, error.message);
    known.health.trouble = trouble;
    return known.backoff.next();
  }

  /** The contour's changes are applied again. */
  over(contour: string): void {
    const known = this.#stopped.get(contour);
    if (!known) return;
    this.#stopped.delete(contour);
    if (this.#stopped.size === 0) this.#rewinds.reset();
    if (known.health.trouble !== null)
      this.#options.logger.info({ channel: known.health.name }, `${known.health.name}: going on again`);
    known.health.trouble = null;
  }

  forget(): void {
    for (const { health } of this.#stopped.values()) health.trouble = null;
    this.#stopped.clear();
  }
}
