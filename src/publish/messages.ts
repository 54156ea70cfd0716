/** Turns what a cut holds for a channel into numbered messages: a pure function of the cut (I13). */
import type { Channel } from "../core/channel.ts";
import type { Chunk, EventRow } from "../core/chunk.ts";
import { encodeFrame } from "../core/frame.ts";
import { type Envelope, envelopeHeaders, HEADER, type Message, messageId } from "../core/message.ts";
import type { Cut } from "../core/source_store.ts";
import { type FrameDraft, Framer, slices } from "./framer.ts";
import { partitionOf } from "./partitioner.ts";

const encoder = new TextEncoder();
const EVENT_BYTES = 880_000;
const EVENT_FRAGMENT_UNITS = 256 * 1024;
/** Messages handed on together, about. */
const BATCH_BYTES = 4_000_000;

interface Draft {
  readonly partition: number;
  readonly key: string | null;
  readonly part: Envelope["part"];
  readonly headers: Readonly<Record<string, string>>;
  encode(numbered: { sequence: number }): Uint8Array;
}

/** Numbers drafts in order, one behind in each partition, so that the last message of the cut can say that it is the last. */
class Numberer {
  readonly sequences: number[];
  readonly #channel: Channel;
  readonly #cut: Cut;
  readonly #held = new Map<number, Draft>();

  constructor(channel: Channel, cut: Cut, sequences: readonly number[]) {
    this.#channel = channel;
    this.#cut = cut;
    this.sequences = [...sequences];
  }

  push(draft: Draft): Message[] {
    const before = this.#held.get(draft.partition);
    this.#held.set(draft.partition, draft);
    return before ? [this.#number(before, false)] : [];
  }

  end(): Message[] {
    const last = [...this.#held.values()].map((draft) => this.#number(draft, true));
    this.#held.clear();
    return last;
  }

  #number(draft: Draft, cutEnd: boolean): Message {
    const { contour, name, kind } = this.#channel;
    const { epoch, cutNo } = this.#cut;
    const sequence = (this.sequences[draft.partition] ?? 0) + 1;
    this.sequences[draft.partition] = sequence;
    const format = kind === "frames" ? "frame/1" : "event/1";
    return {
      id: messageId(contour, epoch, name, draft.partition, sequence),
      partition: draft.partition,
      key: draft.key,
      body: draft.encode({ sequence }),
      headers: {
        ...envelopeHeaders({ format, contour, epoch, sequence, cutNo, cutEnd, part: draft.part }),
        ...draft.headers,
      },
    };
  }
}

/** Messages of a cut in a frame channel; yields batches as they come, returns the last sequence per partition. */
export async function* frameMessages(
  channel: Channel,
  cut: Cut,
  sequences: readonly number[],
  chunks: AsyncIterable<readonly Chunk[]>,
): AsyncGenerator<Message[], number[]> {
  const numberer = new Numberer(channel, cut, sequences);
  const framer = new Framer(cut.frameBytes);
  const draftOf = (draft: FrameDraft): Draft => ({
    partition: 0,
    key: null,
    part: draft.part,
    headers: {},
    encode: ({ sequence }) =>
      encodeFrame({ contour: channel.contour, epoch: cut.epoch, sequence, cut_no: cut.cutNo, chunks: draft.chunks }),
  });
  for await (const batch of chunks) {
    yield* inBatches(numbered(numberer, batch, (chunk) => framer.push(chunk).map(draftOf)));
  }
  const rest = framer.end().flatMap((draft) => numberer.push(draftOf(draft)));
  rest.push(...numberer.end());
  if (rest.length > 0) yield rest;
  return numberer.sequences;
}

/** Messages of a cut in an event channel: one row each, spread by key; TRUNCATE goes to every partition (architecture §5). */
export async function* eventMessages(
  channel: Channel,
  cut: Cut,
  sequences: readonly number[],
  rows: AsyncIterable<readonly EventRow[]>,
): AsyncGenerator<Message[], number[]> {
  const numberer = new Numberer(channel, cut, sequences);
  for await (const batch of rows) {
    yield* inBatches(numbered(numberer, batch, (row) => eventDrafts(row, channel.partitions)));
  }
  const rest = numberer.end();
  if (rest.length > 0) yield rest;
  return numberer.sequences;
}

function* numbered<T>(numberer: Numberer, items: readonly T[], drafts: (item: T) => readonly Draft[]) {
  for (const item of items) for (const draft of drafts(item)) yield* numberer.push(draft);
}

/** A row of many megabytes is many messages: not all of them are made before the first ones are sent (I11). */
function* inBatches(messages: Iterable<Message>): Generator<Message[]> {
  let batch: Message[] = [];
  let bytes = 0;
  for (const message of messages) {
    batch.push(message);
    bytes += message.body.length;
    if (bytes < BATCH_BYTES) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}

function eventDrafts(row: EventRow, partitions: number): Draft[] {
  const headers = { [HEADER.table]: row.table, [HEADER.operation]: row.operation };
  if (row.operation === "TRUNCATE") {
    const body = encoder.encode(row.body);
    return Array.from({ length: partitions }, (_, partition) => ({
      partition,
      key: row.key,
      part: null,
      headers,
      encode: () => body,
    }));
  }
  const partition = partitionOf(row.key, partitions);
  if (Buffer.byteLength(row.body) <= EVENT_BYTES)
    return [{ partition, key: row.key, part: null, headers, encode: () => encoder.encode(row.body) }];
  const pieces = slices(row.body, EVENT_FRAGMENT_UNITS);
  return pieces.map((piece, index) => ({
    partition,
    key: row.key,
    part: { transaction: row.queue_id, part: index + 1, last: index === pieces.length - 1 },
    headers,
    encode: () => encoder.encode(piece),
  }));
}
