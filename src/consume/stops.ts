/** What ends a reading: errors that stop one channel, because reading on would skip something (I5), and a stall. */
import { type Channel, channelLabel } from "../core/channel.ts";
import { ReplicatorError } from "../core/errors.ts";

/** The log is not as it should be. */
const BROKEN = new Set(["consume.gap", "consume.epoch", "wire.bad_frame", "wire.bad_header"]);
/** The log is as it should be, and the target must not take the next transaction yet (on_error: stop, limits of parking). */
const HALTING = new Set(["apply.stopped", "apply.parked_limit"]);

/** The channel stops and says so, the others go on. */
export function isStop(error: unknown): error is ReplicatorError {
  return error instanceof ReplicatorError && (isHalt(error) || BROKEN.has(error.code));
}

/** A stop at which reading the log again can change nothing. */
export function isHalt({ code }: ReplicatorError): boolean {
  return HALTING.has(code);
}

export function gap(channel: Channel, missing: number, partition: number): ReplicatorError {
  return new ReplicatorError({
    code: "consume.gap",
    message: `Sequence ${missing} of channel ${channelLabel(channel)} (partition ${partition}) is missing, later messages are there; the channel stops, nothing is skipped`,
    retry: "backoff",
    fault: "environment",
    facts: { channel: channelLabel(channel), missing, partition },
    remedy:
      "Messages were deleted before they were applied: keep topics longer (retention), then copy the tables afresh",
  });
}

export function epochBroke(
  channel: Channel,
  verdict: { readonly found: number; readonly expected: number },
): ReplicatorError {
  return new ReplicatorError({
    code: "consume.epoch",
    message: `Channel ${channelLabel(channel)} goes on with epoch ${verdict.found}, the ledger has epoch ${verdict.expected}: the history of contour "${channel.contour}" broke; the channel stops`,
    retry: "backoff",
    fault: "environment",
    facts: { channel: channelLabel(channel), epoch: verdict.found, ledger_epoch: verdict.expected },
    remedy: `Contour "${channel.contour}" was restored: compare the contours and copy its tables afresh before going on`,
  });
}

export function stalled(channel: Channel, ms: number): ReplicatorError {
  return new ReplicatorError({
    code: "consume.stalled",
    message: `A large transaction of ${channelLabel(channel)} stopped arriving for ${ms / 1000} s; rolled back, it will be read again`,
    retry: "backoff",
    fault: "environment",
  });
}
