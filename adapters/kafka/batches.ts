/** Cuts a partition's messages into produce requests. */
import type { Message } from "../../src/core/message.ts";
import { MESSAGE_LIMIT } from "../../src/core/message.ts";

/** Bytes of one request: below every usual limit of batch, topic and socket. */
export const BATCH_BYTES = MESSAGE_LIMIT;
/** kafkajs copies its list once per message (quadratic): 1 µs a message at 250, 3 at 1,000, seconds in all at 20,000. */
export const BATCH_MESSAGES = 250;
/** Framing, headers' lengths, offsets and timestamps of a record. */
const RECORD_OVERHEAD = 64;

/** A message and its place in the caller's list. */
export interface Placed {
  readonly index: number;
  readonly message: Message;
}

export function byPartition(messages: readonly Message[]): Map<number, Placed[]> {
  const partitions = new Map<number, Placed[]>();
  for (const [index, message] of messages.entries()) {
    const list = partitions.get(message.partition);
    if (list) list.push({ index, message });
    else partitions.set(message.partition, [{ index, message }]);
  }
  return partitions;
}

/** Batches in order; a message above the limit of a batch is a batch of its own. */
export function* batches(placed: readonly Placed[]): Generator<readonly Placed[]> {
  let batch: Placed[] = [];
  let bytes = 0;
  for (const one of placed) {
    const size = sizeOf(one.message);
    if (batch.length > 0 && (bytes + size > BATCH_BYTES || batch.length >= BATCH_MESSAGES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(one);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}

/** Bytes a message takes on the wire, estimated from above for ASCII keys and headers. */
export function sizeOf(message: Message): number {
  let bytes = RECORD_OVERHEAD + message.body.byteLength + (message.key?.length ?? 0);
  for (const name in message.headers) bytes += name.length + (message.headers[name]?.length ?? 0) + 4;
  return bytes;
}
