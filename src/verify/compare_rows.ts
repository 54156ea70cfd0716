/**
 * Finds the rows that differ between two contours. The contour here is read in the order of its key, chunk by chunk; there
 * the rows of the same keys are looked up, so that no order is ever compared with another one's: text sorts by collation, and
 * two databases seldom have the same. Then there is read the same way for keys that are not here. Only of chunks whose
 * digests differ single rows are looked at. Memory is that of a chunk, whatever the size of the table (I11).
 */
import type { KeyList, RowKey, VerifyRows } from "../core/verify.ts";

/** A row that was not the same when it was looked at: hashes, null where there is no row. */
export interface Candidate {
  readonly key: RowKey;
  readonly here: string | null;
  readonly there: string | null;
}

export interface CompareOptions {
  readonly here: VerifyRows;
  readonly there: VerifyRows;
  /** Rows of a chunk, from 1. */
  readonly chunkRows: number;
  readonly signal: AbortSignal;
  /** Called after each chunk with the rows it had. */
  onProgress(rows: number): void;
  /** Called with the rows of a chunk that differ; the comparison waits for it. */
  onCandidates(candidates: readonly Candidate[]): Promise<void>;
}

export interface RowCounts {
  readonly here: number;
  readonly there: number;
}

/** @returns how many rows each contour has, as they were met */
export async function compareRows(options: CompareOptions): Promise<RowCounts> {
  const here = await compareWhatIsHere(options);
  const there = await findWhatIsOnlyThere(options);
  return { here, there };
}

async function compareWhatIsHere(options: CompareOptions): Promise<number> {
  const { here, there, chunkRows, signal, onProgress } = options;
  let rows = 0;
  for (let chunk = await here.next(null, chunkRows, signal); chunk; ) {
    const { keys, digest, last } = chunk;
    const full = keys.count >= chunkRows;
    // The next chunk is read here while this one is looked up there.
    const [other, next] = await Promise.all([
      there.digest(keys, signal),
      full ? here.next(last, chunkRows, signal) : null,
    ]);
    if (other !== digest) await lookCloser(options, keys);
    rows += keys.count;
    onProgress(keys.count);
    chunk = next;
  }
  return rows;
}

async function lookCloser({ here, there, signal, onCandidates }: CompareOptions, keys: KeyList): Promise<void> {
  const [ours, theirs] = await Promise.all([here.hashes(keys, signal), there.hashes(keys, signal)]);
  const places = ours.flatMap((hash, place) => (hash === (theirs[place] ?? null) ? [] : [place]));
  if (places.length === 0) return;
  const found = await here.pick(keys, places, signal);
  await onCandidates(
    found.map((key, n) => {
      const place = places[n] ?? 0;
      return { key, here: ours[place] ?? null, there: theirs[place] ?? null };
    }),
  );
}

async function findWhatIsOnlyThere(options: CompareOptions): Promise<number> {
  const { here, there, chunkRows, signal, onProgress, onCandidates } = options;
  let rows = 0;
  for (let chunk = await there.nextKeys(null, chunkRows, signal); chunk; ) {
    const { keys, last } = chunk;
    const full = keys.count >= chunkRows;
    const [places, next] = await Promise.all([
      here.missing(keys, signal),
      full ? there.nextKeys(last, chunkRows, signal) : null,
    ]);
    if (places.length > 0) {
      const found = await there.pick(keys, places, signal);
      const hashes = await there.hashes(there.list(found), signal);
      await onCandidates(found.map((key, n) => ({ key, here: null, there: hashes[n] ?? null })));
    }
    rows += keys.count;
    onProgress(keys.count);
    chunk = next;
  }
  return rows;
}
