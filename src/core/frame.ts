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
import type { Chunk, ChunkHeader, Operation } from "./chunk.ts";
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
// A piece of a large row may begin with U+FEFF: it is text, no byte order mark (I7).
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
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
    return { ...value };
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
      const header = readLine();
      const data = readText(Number(header.bytes));
      const old = Number(header.old_bytes) > 0 ? readText(Number(header.old_bytes)) : null;
      chunks.push({ ...chunkHeader(header), data, old });
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

/** Once a chunk: what other programs wrote is taken for a header only when it is one. */
function chunkHeader(header: Readonly<Record<string, unknown>>): ChunkHeader {
  const { operation, rows, key, stamp, fragment } = header;
  if (!isOperation(operation)) throw badFrame(`has a chunk with operation ${JSON.stringify(operation)}`);
  const [version, updatedAt, updatedBy, ...others] = names(stamp, "stamp");
  if (version === undefined || updatedAt === undefined || updatedBy === undefined || others.length > 0)
    throw badFrame("has a chunk whose stamp is not three columns");
  return {
    schema: text(header, "schema"),
    table: text(header, "table"),
    operation,
    transaction: text(header, "transaction"),
    first_queue_id: text(header, "first_queue_id"),
    captured_at: text(header, "captured_at"),
    rows: count(rows, "rows", 1),
    key: names(key, "key"),
    stamp: [version, updatedAt, updatedBy],
    ...(fragment === undefined ? {} : { fragment: fragmentOf(fragment) }),
  };
}

const OPERATIONS: ReadonlySet<unknown> = new Set<Operation>(["INSERT", "UPDATE", "DELETE", "TRUNCATE", "SNAPSHOT"]);

function isOperation(value: unknown): value is Operation {
  return OPERATIONS.has(value);
}

function fragmentOf(value: unknown): NonNullable<ChunkHeader["fragment"]> {
  if (typeof value !== "object" || value === null || !("index" in value) || !("count" in value))
    throw badFrame("has a chunk whose fragment has no index and count");
  return { index: count(value.index, "fragment.index", 0), count: count(value.count, "fragment.count", 1) };
}

function text(header: Readonly<Record<string, unknown>>, member: string): string {
  const value = header[member];
  if (typeof value !== "string") throw badFrame(`has a chunk whose "${member}" is no text`);
  return value;
}

function count(value: unknown, member: string, least: number): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < least)
    throw badFrame(`has a chunk whose "${member}" is ${JSON.stringify(value)}`);
  return value;
}

function names(value: unknown, member: string): readonly string[] {
  if (!Array.isArray(value) || !value.every((name) => typeof name === "string"))
    throw badFrame(`has a chunk whose "${member}" is no list of columns`);
  return value;
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
