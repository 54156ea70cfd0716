/**
 * Keeps the cutter near the senders of other processes. Those of its own process tell it; of the others it asks the
 * database now and then. Without it an outage of the broker would leave a cut for every look instead of a few large ones.
 */
import type { Clock } from "../core/clock.ts";
import type { SourceStore } from "../core/source_store.ts";

export interface BrakeOptions {
  readonly store: Pick<SourceStore, "channelState">;
  readonly clock: Clock;
  /** Channels whose sender is another process's at this moment. */
  elsewhere(): readonly { readonly name: string; readonly partitions: number }[];
  /** There are channels that other processes send, if any do: they set the pace and hold nothing up. */
  readonly othersSend?: boolean | undefined;
}

/** Shortest pause between two cuts while a sender is elsewhere: as many cuts as a sender that polls can follow. */
export const PAUSE_ELSEWHERE_MS = 20;
/** A sender may record an idle channel's cuts two seconds late, so this is not a sign of being behind. */
const MAX_ELSEWHERE = 200;
const ASK_EVERY_MS = 250;

export class Brake {
  readonly #options: BrakeOptions;
  #askedAt = Number.NEGATIVE_INFINITY;
  #slowest = 0;

  constructor(options: BrakeOptions) {
    this.#options = options;
  }

  /** True while some sender is elsewhere. */
  get isSplit(): boolean {
    return this.#options.othersSend === true || this.#options.elsewhere().length > 0;
  }

  /** Whether senders elsewhere have not sent so many cuts before this one that no further should be taken. */
  async isTooFar(lastCut: number): Promise<boolean> {
    const { store, clock, elsewhere } = this.#options;
    const channels = elsewhere();
    if (channels.length === 0) return false;
    if (clock.monotonic() - this.#askedAt > ASK_EVERY_MS) {
      const states = await Promise.all(channels.map(({ name, partitions }) => store.channelState(name, partitions)));
      this.#slowest = Math.min(...states.map(({ confirmedCut }) => confirmedCut));
      this.#askedAt = clock.monotonic();
    }
    return lastCut - this.#slowest >= MAX_ELSEWHERE;
  }
}
