/**
 * Turns a durable that stands still into an end with a name: heartbeats come, messages lie in the stream, and none is
 * delivered. Somebody has paused it (`nats consumer pause`), or the server has lost its way; a durable made anew goes on.
 */
import type { Clock } from "../../src/core/clock.ts";

export interface StandstillOptions {
  /** What the session does at this moment. */
  readonly session: {
    /** A request waits at the server and nothing waits for the reader. */
    readonly waiting: boolean;
    /** The consumer's number of its next delivery. */
    readonly nextDelivery: number;
  };
  /** What the server says of the durable; null where it does not say. */
  state(): Promise<{ readonly pending: number; readonly delivered: number } | null>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** An idle reader costs one question to the server in this time. */
const LOOK_MS = 5_000;

/** Resolves with true when the durable stands still at two looks, with false when the signal aborts. Never rejects as long as `state` does not. */
export async function standsStill({ session, state, clock, signal }: StandstillOptions): Promise<boolean> {
  let looked = -1;
  let behind = -1;
  for (;;) {
    await clock.sleep(LOOK_MS, signal);
    if (signal.aborted) return false;
    const next = session.nextDelivery;
    // Something came since the last look, or the reader is busy: nothing stands still.
    const quiet = session.waiting && next === looked;
    looked = next;
    if (!quiet) {
      behind = -1;
      continue;
    }
    const found = await state();
    if (signal.aborted) return false;
    const stands = found !== null && (found.pending > 0 || found.delivered >= next) && session.nextDelivery === next;
    if (stands && behind === next) return true;
    behind = stands ? next : -1;
  }
}
