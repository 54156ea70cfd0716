/**
 * Takes cuts (architecture §4.1): what is visible now and was not before becomes one recorded batch, committed before
 * its first byte is sent (I13). Polling adapts: milliseconds while there is work, backing off to `pollIntervalMs`.
 */
import type { Clock } from "../core/clock.ts";
import { type HeldLease, LeaseKeeper } from "../core/lease_keeper.ts";
import type { Logger } from "../core/logger.ts";
import { type LoopHealth, runLoop } from "../core/loop.ts";
import type { Cut, SourceStore } from "../core/source_store.ts";
import type { Wake } from "../core/wake.ts";
import { Brake, PAUSE_ELSEWHERE_MS } from "./brake.ts";

export interface CutterOptions {
  readonly store: SourceStore;
  readonly owner: string;
  readonly leaseMs: number;
  /** The longest wait between two looks. */
  readonly pollIntervalMs: number;
  readonly frameBytes: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly health: LoopHealth;
  /** Called for each cut, so that the senders of this process need not ask the database. */
  onCut(cut: Cut): void;
  /** Cuts the slowest sender of this process has not sent yet; above the limit no cut is taken: the next one is larger. */
  outstanding(): number;
  /** Channels whose sender is another process's at this moment. */
  elsewhere(): readonly { readonly name: string; readonly partitions: number }[];
  /** There are channels that other processes send, if any do: they set the pace and hold nothing up. */
  readonly othersSend?: boolean | undefined;
  /** Rung by senders when they have sent a cut. */
  readonly wake: Wake;
}

/** Shortest pause between two looks while there is work, in ms: bounds the queries per second, adds less than it to the latency. */
const BUSY_PAUSE_MS = 2;
const MAX_OUTSTANDING = 2;

export function runCutter(options: CutterOptions, signal: AbortSignal): Promise<void> {
  const { store, owner, leaseMs, clock, logger } = options;
  const keeper = new LeaseKeeper({
    what: "the cutter",
    ttlMs: leaseMs,
    acquire: () => store.lease("cutter", "", owner, leaseMs),
    release: (lease) => store.releaseLease("cutter", "", lease),
    clock,
    logger,
  });
  return runLoop({
    name: "cutter",
    health: options.health,
    clock,
    logger,
    signal,
    body: async (moving) => {
      const work = async (held: HeldLease, lost: AbortSignal) => {
        const brake = new Brake(options);
        let pause = BUSY_PAUSE_MS;
        let last = 0;
        while (!lost.aborted) {
          const free = options.outstanding() < MAX_OUTSTANDING && !(await brake.isTooFar(last));
          const cut = free ? await store.takeCut(held.get(), options.frameBytes) : null;
          if (free) moving();
          if (cut) {
            last = cut.cutNo;
            options.onCut(cut);
            pause = BUSY_PAUSE_MS;
          } else {
            // Senders ring when they have sent a cut: without a broker there is nothing to look for every few milliseconds.
            pause = Math.min(pause * 1.5, options.pollIntervalMs);
          }
          if (brake.isSplit) await clock.sleep(Math.max(pause, PAUSE_ELSEWHERE_MS), lost);
          else await options.wake.wait(pause, lost);
        }
      };
      await keeper.hold(signal, work, moving);
    },
  });
}
