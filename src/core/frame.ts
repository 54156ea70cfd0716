/**
 * frame/1: one message of many whole changes. A header line, then per chunk one header line, the row lines and, for
 * deletes, the old rows. Chunks are delimited by byte lengths, not by newlines: a json column may hold raw newlines.
 *
 * ```
 * {"format":"frame/1","contour":"active","epoch":1,"sequence":12,"cut_no":311,"chunks":2}
 * {"schema":"public","table":"users","operation":"INSERT",…,"bytes":1234,"old_bytes":0}
 * {…row…},
 * {…row…}
 * ```
 */
import type { Chunk, ChunkHeader } from "./chunk.ts";
import { ReplicatorError } from "./errors.ts";

export interface FrameHeader {
  readonly contour: string;
  readonly epoch: number;
  readonly sequence: number;
  readonly cut_no: number;
}

export interface Frame extends FrameHeader {
  readonly chunks: readonly Chunk[];
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });
const NEWLINE = 10;

/** Deterministic: the same chunks give the same bytes (I13). */
export function encodeFrame(frame: Frame): Uint8Array {
  const pieces: Uint8Array[] = [];
  const { contour, epoch, sequence, cut_no } = frame;
  pieces.push(line({ format: "frame/1", contour, epoch, sequence, cut_no, chunks: frame.chunks.length }));
  for (const { data, old, ...header } of frame.chunks) {
    const dataBytes = encoder.encode(`${data}\n`);
    const oldBytes = old === null ? null : encoder.encode(`${old}\n`);
    pieces.push(line({ ...header, bytes: dataBytes.length, old_bytes: oldBytes?.length ?? 0 }), dataBytes);
    if (oldBytes) pieces.push(oldBytes);
  }
  return concat(pieces);
}

/** @throws ReplicatorError `wire.bad_frame` */
export function decodeFrame(body: Uint8Array): Frame {
  let offset = 0;
  const readLine = (): Record<string, unknown> => {
    const end = body.indexOf(NEWLINE, offset);
    if (end < 0) throw badFrame("ends inside a header line");
    const value: unknown = JSON.parse(decoder.decode(body.subarray(offset, end)));
    offset = end + 1;
    if (typeof value !== "object" || value === null) throw badFrame("has a header line that is no JSON object");
    return value as Record<string, unknown>;
  };
  const readText = (bytes: number): string => {
    if (!Number.isSafeInteger(bytes) || bytes < 1 || offset + bytes > body.length)
      throw badFrame("ends inside a chunk");
    const text = decoder.decode(body.subarray(offset, offset + bytes - 1));
    offset += bytes;
    return text;
  };
  try {
    const head = readLine();
    if (head.format !== "frame/1") throw badFrame(`has format "${String(head.format)}", expected "frame/1"`);
    const count = Number(head.chunks);
    const chunks: Chunk[] = [];
    for (let n = 0; n < count; n++) {
      const { bytes, old_bytes, ...header } = readLine();
      const data = readText(Number(bytes));
      const old = Number(old_bytes) > 0 ? readText(Number(old_bytes)) : null;
      chunks.push({ ...(header as unknown as ChunkHeader), data, old });
    }
    if (offset !== body.length) throw badFrame("has bytes after its last chunk");
    return {
      contour: String(head.contour),
      epoch: Number(head.epoch),
      sequence: Number(head.sequence),
      cut_no: Number(head.cut_no),
      chunks,
    };
  } catch (error) {
    if (error instanceof ReplicatorError) throw error;
    throw badFrame("does not parse", error);
  }
}

function line(value: object): Uint8Array {
  return encoder.encode(`${JSON.stringify(value)}\n`);
}

function concat(pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    whole.set(piece, offset);
    offset += piece.length;
  }
  return whole;
}

function badFrame(what: string, cause?: unknown): ReplicatorError {
  return new ReplicatorError({
    code: "wire.bad_frame",
    message: `Read a frame that ${what}`,
    retry: "never",
    fault: "environment",
    remedy: "Something else writes to this topic, or the replicators differ in version: run one version everywhere",
    cause,
  });
}
