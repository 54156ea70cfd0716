/** From a position of the ledger to the first stream sequence to read. Pure. */
import type { StreamInfo } from "@nats-io/jetstream";
import type { Position } from "../../src/core/broker.ts";

/** The stream sequence a position names; null when it names none. */
export function sequenceOf(from: Position | null): number | null {
  return from && /^[0-9]{1,16}$/.test(from.offset) ? Number(from.offset) : null;
}

/** Where to begin: the position, or the earliest message when it means nothing in this stream. */
export function startSequence(
  from: Position | null,
  identity: string,
  state: Pick<StreamInfo["state"], "first_seq" | "last_seq">,
): number {
  const first = Math.max(1, state.first_seq);
  const offset = from?.identity === identity ? sequenceOf(from) : null;
  return offset === null || offset < first || offset > state.last_seq + 1 ? first : offset;
}
