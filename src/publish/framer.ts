/**
 * Splits the chunks of a cut into frames: greedy, by the cut's own parameters, so that every owner makes the same frames
 * of the same cut (I13). A transaction that does not fit into one frame has frames of its own, marked as its parts (I12).
 */
import type { Chunk } from "../core/chunk.ts";
import type { Envelope } from "../core/message.ts";

/** A frame before it is numbered. */
export interface FrameDraft {
  readonly chunks: readonly Chunk[];
  readonly part: Envelope["part"];
}

/** Longest piece of a fragmented row, in UTF-16 code units: at most 3 bytes each, so a message stays below the limit. */
const FRAGMENT_UNITS = 256 * 1024;
/** A chunk above this many bytes is cut into fragments. */
const WHOLE_CHUNK_BYTES = 780_000;
/** Header line of a chunk and its newlines, at a guess from above. */
const CHUNK_OVERHEAD = 400;

export class Framer {
  readonly #frameBytes: number;
  /** Whole transactions, then the chunks of the transaction that is still open. */
  #done: Chunk[] = [];
  #doneBytes = 0;
  #open: Chunk[] = [];
  #openBytes = 0;
  #part = 0;

  constructor(frameBytes: number) {
    this.#frameBytes = frameBytes;
  }

  /** Takes the next chunk in order; returns the frames that are complete now. */
  push(chunk: Chunk): FrameDraft[] {
    const drafts: FrameDraft[] = [];
    if (this.#open.length > 0 && this.#open[0]?.transaction !== chunk.transaction)
      drafts.push(...this.#endTransaction());
    for (const piece of fragments(chunk)) {
      const bytes = chunkBytes(piece);
      if (this.#doneBytes + this.#openBytes + bytes > this.#frameBytes) {
        drafts.push(...this.#flushDone());
        if (this.#open.length > 0 && this.#openBytes + bytes > this.#frameBytes) drafts.push(this.#flushPart(false));
      }
      this.#open.push(piece);
      this.#openBytes += bytes;
    }
    return drafts;
  }

  /** The cut has no more chunks. */
  end(): FrameDraft[] {
    return [...this.#endTransaction(), ...this.#flushDone()];
  }

  #endTransaction(): FrameDraft[] {
    if (this.#open.length === 0) return [];
    if (this.#part > 0) return [this.#flushPart(true)];
    this.#done.push(...this.#open);
    this.#doneBytes += this.#openBytes;
    this.#open = [];
    this.#openBytes = 0;
    return [];
  }

  #flushDone(): FrameDraft[] {
    if (this.#done.length === 0) return [];
    const chunks = this.#done;
    this.#done = [];
    this.#doneBytes = 0;
    return [{ chunks, part: null }];
  }

  #flushPart(last: boolean): FrameDraft {
    const chunks = this.#open;
    this.#open = [];
    this.#openBytes = 0;
    const part = { transaction: chunks[0]?.transaction ?? "", part: ++this.#part, last };
    if (last) this.#part = 0;
    return { chunks, part };
  }
}

function chunkBytes(chunk: Chunk): number {
  return Buffer.byteLength(chunk.data) + (chunk.old === null ? 0 : Buffer.byteLength(chunk.old)) + CHUNK_OVERHEAD;
}

function fragments(chunk: Chunk): Chunk[] {
  let whole = chunk;
  if (chunk.old !== null && chunkBytes(chunk) > WHOLE_CHUNK_BYTES) {
    // The old image of a delete is for readers, not for apply: one too large for a message is left out.
    whole = { ...chunk, old: null };
  }
  if (Buffer.byteLength(whole.data) <= WHOLE_CHUNK_BYTES) return [whole];
  const pieces = slices(whole.data, FRAGMENT_UNITS);
  return pieces.map((data, index) => ({ ...whole, data, fragment: { index, count: pieces.length } }));
}

/** Cuts a text into pieces of at most `units` code units, never inside a surrogate pair. */
export function slices(text: string, units: number): string[] {
  const pieces: string[] = [];
  for (let start = 0; start < text.length; ) {
    let end = Math.min(start + units, text.length);
    const last = text.charCodeAt(end - 1);
    if (end < text.length && last >= 0xd800 && last <= 0xdbff) end--;
    pieces.push(text.slice(start, end));
    start = end;
  }
  return pieces;
}
