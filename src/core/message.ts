/** What travels over a broker: one message and its headers (interface §4). */
import { ReplicatorError } from "./errors.ts";

export const HEADER = {
  format: "replicator-format",
  contour: "replicator-contour",
  epoch: "replicator-epoch",
  sequence: "replicator-sequence",
  /** Number of the cut the message belongs to. */
  cut: "replicator-cut",
  /** `1` on the last message of its cut in this partition: up to here the target can be a state the source had. */
  cutEnd: "replicator-cut-end",
  /** `transaction;part;last`: message `part` (from 1) of a transaction (frames) or row (events) that spans several; last is 1 or 0. */
  part: "replicator-part",
  /** Events only: `schema.table` as SQL writes it, and the operation, so that a reader can route without parsing. */
  table: "replicator-table",
  operation: "replicator-operation",
} as const;

export type Format = "frame/1" | "event/1";

/** Largest body the product sends (interface §4), in bytes. */
export const MESSAGE_LIMIT = 900_000;

export interface Message {
  /** Derived from (contour, epoch, channel, partition, sequence): a resend has the same id and the same bytes (I13). */
  readonly id: string;
  readonly partition: number;
  /** The primary key as JSON text for events; null for frames. */
  readonly key: string | null;
  readonly body: Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
}

/** The headers of a message, parsed. Numbers here are counters far below 2^53, never row values (I7). */
export interface Envelope {
  readonly format: Format;
  readonly contour: string;
  readonly epoch: number;
  readonly sequence: number;
  readonly cutNo: number;
  readonly cutEnd: boolean;
  readonly part: { readonly transaction: string; readonly part: number; readonly last: boolean } | null;
}

export function messageId(
  contour: string,
  epoch: number,
  channel: string,
  partition: number,
  sequence: number,
): string {
  return `${contour}:${epoch}:${channel}:${partition}:${sequence}`;
}

export function envelopeHeaders(envelope: Envelope): Record<string, string> {
  const headers: Record<string, string> = {
    [HEADER.format]: envelope.format,
    [HEADER.contour]: envelope.contour,
    [HEADER.epoch]: String(envelope.epoch),
    [HEADER.sequence]: String(envelope.sequence),
    [HEADER.cut]: String(envelope.cutNo),
  };
  if (envelope.cutEnd) headers[HEADER.cutEnd] = "1";
  if (envelope.part) {
    headers[HEADER.part] = `${envelope.part.transaction};${envelope.part.part};${envelope.part.last ? 1 : 0}`;
  }
  return headers;
}

/** @throws ReplicatorError `wire.bad_header` when a header is missing or malformed: the message is not ours. */
export function parseEnvelope(headers: Readonly<Record<string, string>>): Envelope {
  const format = headers[HEADER.format];
  if (format !== "frame/1" && format !== "event/1") throw badHeader(HEADER.format, format, '"frame/1" or "event/1"');
  const contour = headers[HEADER.contour];
  if (contour === undefined || !/^[a-z0-9_-]{1,32}$/.test(contour)) {
    throw badHeader(HEADER.contour, contour, "a contour's name");
  }
  return {
    format,
    contour,
    epoch: counter(headers, HEADER.epoch),
    sequence: counter(headers, HEADER.sequence),
    cutNo: counter(headers, HEADER.cut),
    cutEnd: headers[HEADER.cutEnd] === "1",
    part: parsePart(headers[HEADER.part]),
  };
}

function counter(headers: Readonly<Record<string, string>>, name: string): number {
  const text = headers[name];
  const value = text !== undefined && /^[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw badHeader(name, text, "a whole number");
  return value;
}

function parsePart(text: string | undefined): Envelope["part"] {
  if (text === undefined) return null;
  const match = /^([^;]+);([0-9]{1,15});([01])$/.exec(text);
  if (!match) throw badHeader(HEADER.part, text, '"transaction;part;last"');
  return { transaction: match[1] as string, part: Number(match[2]), last: match[3] === "1" };
}

function badHeader(name: string, found: string | undefined, expected: string): ReplicatorError {
  return new ReplicatorError({
    code: "wire.bad_header",
    message: `Read a message whose header "${name}" is ${found === undefined ? "missing" : `"${found}"`}, expected ${expected}`,
    retry: "never",
    fault: "environment",
    remedy: "Something else writes to this topic: give each topic to the replicators alone (ACL per contour)",
  });
}
