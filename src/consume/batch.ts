/** From a delivery to what the target store applies: decoding touches headers, never row values (I7). */
import type { Delivery } from "../core/broker.ts";
import { ReplicatorError } from "../core/errors.ts";
import { decodeFrame } from "../core/frame.ts";
import { type Envelope, HEADER } from "../core/message.ts";
import type { ApplyBatch } from "../core/target_store.ts";

// A piece of a large event may begin with U+FEFF: it is text, no byte order mark (I7).
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @throws ReplicatorError `wire.bad_frame`, `wire.bad_header` */
export function batchOf(envelope: Envelope, delivery: Delivery): ApplyBatch {
  const { epoch, sequence, cutNo, part } = envelope;
  const shared = { epoch, sequence, cutNo, endsCut: envelope.cutEnd, next: delivery.next };
  if (envelope.format === "frame/1") {
    const frame = decodeFrame(delivery.body);
    if (frame.contour !== envelope.contour || frame.epoch !== epoch || frame.sequence !== sequence) {
      throw new ReplicatorError({
        code: "wire.bad_frame",
        message: `Read a frame whose header says ${frame.contour}/${frame.epoch}/${frame.sequence} and whose message says ${envelope.contour}/${epoch}/${sequence}`,
        retry: "never",
        fault: "environment",
        remedy: "Somebody else writes to this topic: allow writing to the contour's replicator only (ACL)",
      });
    }
    return { ...shared, kind: "frames", chunks: frame.chunks, events: [] };
  }
  const table = delivery.headers[HEADER.table];
  const operation = delivery.headers[HEADER.operation];
  if (table === undefined || operation === undefined) {
    throw new ReplicatorError({
      code: "wire.bad_header",
      message: `Read an event of contour "${envelope.contour}" without the header "${table === undefined ? HEADER.table : HEADER.operation}"`,
      retry: "never",
      fault: "environment",
      remedy: "Run one version of the replicator at all contours",
    });
  }
  const event = { sequence, table, operation, body: decoder.decode(delivery.body) };
  const fragment = part ? { fragment: { id: part.transaction, index: part.part - 1, last: part.last } } : {};
  return { ...shared, kind: "events", chunks: [], events: [{ ...event, ...fragment }] };
}

/** What the end of this message allows: a commit that leaves whole cuts, whole transactions, or neither (I12). */
export type Boundary = "cut" | "transaction" | "none";

export function boundaryOf(envelope: Envelope): Boundary {
  if (envelope.cutEnd) return "cut";
  return envelope.part && !envelope.part.last ? "none" : "transaction";
}

/** When the newest change of a batch was captured, ISO 8601; null where it does not say. */
export function capturedAt(batch: ApplyBatch): string | null {
  const chunk = batch.chunks.at(-1);
  if (chunk) return chunk.captured_at;
  // The envelope of an event comes before its row, so the first match is ours.
  return /"captured_at":"([^"]{1,40})"/.exec(batch.events.at(-1)?.body ?? "")?.[1] ?? null;
}
