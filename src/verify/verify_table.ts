/** Compares one table of two contours: its columns, its rows, and once more the rows that differed. */
import type { TableName } from "../core/table_name.ts";
import type { RowImage, TableShape, VerifyRows, VerifySide } from "../core/verify.ts";
import { comparedColumns } from "./columns.ts";
import { type Candidate, compareRows } from "./compare_rows.ts";
import type { Delivered } from "./delivery.ts";
import type { Patience } from "./patience.ts";
import type { NewestRow, RowDifference, StampText, TableReport, Verdict } from "./report.ts";
import { settle } from "./settle.ts";

export interface Progress {
  readonly table: string;
  /** Rows met so far, here and there together. */
  readonly rows: number;
  /** As PostgreSQL estimates them. */
  readonly of: number;
}

export interface VerifyTableOptions {
  readonly here: VerifySide;
  readonly there: VerifySide;
  readonly table: TableName & { readonly written: string };
  readonly lagSeconds: number;
  /** Rows of a chunk; fewer are taken of wide rows. */
  readonly chunkRows: number;
  /** Differences that are listed; the others are counted. */
  readonly limit: number;
  readonly patience: Patience;
  readonly signal: AbortSignal;
  /** Marks what is committed now at both contours. */
  mark(): Promise<Delivered>;
  onProgress(progress: Progress): void;
}

/** Text that PostgreSQL reads for a chunk. */
const CHUNK_BYTES = 64 * 1024 * 1024;
const FEWEST_ROWS = 20;
/** Rows that wait for their second look. */
const MOST_CANDIDATES = 5_000;
const NEWEST = 3;

export async function verifyTable(options: VerifyTableOptions): Promise<TableReport> {
  const { here, there, table, signal } = options;
  const ours = await here.shape(table, null, signal);
  if (!ours) return uncomparable(options, "the table is not here");
  const theirs = await there.shape(table, ours.key, signal);
  if (!theirs) return uncomparable(options, "the table is not there");
  const columns = comparedColumns(ours, theirs);
  if (columns.problem !== null) {
    return {
      ...uncomparable(options, columns.problem),
      columns_only_here: columns.onlyHere,
      columns_only_there: columns.onlyThere,
    };
  }
  const rows = { here: here.rows(ours, columns.here), there: there.rows(theirs, columns.there) };
  const found = await findDifferences(options, ours, theirs, rows);
  const details = await describe(found.listed, { ...rows, columns: columns.here, key: ours.key, signal });
  const newest = await Promise.all(
    [rows.here, rows.there].map(async (side, n) =>
      (n === 0 ? ours : theirs).stamp === null
        ? []
        : (await side.newest(NEWEST, signal)).map(
            ({ key, at }): NewestRow => ({ key: named(ours.key, key), updated_at: at }),
          ),
    ),
  );
  const unlike = columns.onlyHere.length + columns.onlyThere.length > 0;
  const differ = found.onlyHere + found.onlyThere + found.different > 0 || unlike;
  const verdict: Verdict = differ ? "different" : found.inFlight > 0 ? "in flight" : "equal";
  return {
    table: table.written,
    verdict,
    rows_here: found.rows.here,
    rows_there: found.rows.there,
    only_here: found.onlyHere,
    only_there: found.onlyThere,
    different: found.different,
    in_flight: found.inFlight,
    columns_only_here: columns.onlyHere,
    columns_only_there: columns.onlyThere,
    problem: null,
    lag_seconds: options.lagSeconds,
    newest_here: newest[0] ?? [],
    newest_there: newest[1] ?? [],
    differences: details,
  };
}

interface Listed extends Candidate {
  readonly inFlight: boolean;
}

interface Found {
  readonly rows: { readonly here: number; readonly there: number };
  onlyHere: number;
  onlyThere: number;
  different: number;
  inFlight: number;
  readonly listed: Listed[];
}

interface Rows {
  readonly here: VerifyRows;
  readonly there: VerifyRows;
}

async function findDifferences(
  options: VerifyTableOptions,
  ours: TableShape,
  theirs: TableShape,
  rows: Rows,
): Promise<Found> {
  const { table, patience, signal, limit } = options;
  const counts = { onlyHere: 0, onlyThere: 0, different: 0, inFlight: 0, listed: [] as Listed[] };
  const list = (candidates: readonly Candidate[], inFlight: boolean) =>
    counts.listed.push(
      ...candidates.slice(0, Math.max(0, limit - counts.listed.length)).map((one) => ({ ...one, inFlight })),
    );
  let waiting: Candidate[] = [];
  const decide = async () => {
    const candidates = waiting;
    waiting = [];
    if (candidates.length === 0) return;
    const second = { ...rows, patience, signal, mark: () => options.mark() };
    const { different, inFlight } = await settle(candidates, second);
    for (const { here, there } of different) {
      if (there === null) counts.onlyHere++;
      else if (here === null) counts.onlyThere++;
      else counts.different++;
    }
    counts.inFlight += inFlight.length;
    list(different, false);
    list(inFlight, true);
  };
  const of = ours.estimatedRows + theirs.estimatedRows;
  let met = 0;
  const widest = Math.max(ours.estimatedRowBytes, theirs.estimatedRowBytes, 1);
  const seen = await compareRows({
    ...rows,
    signal,
    chunkRows: Math.max(FEWEST_ROWS, Math.min(options.chunkRows, Math.floor(CHUNK_BYTES / widest))),
    onProgress: (n) => {
      met += n;
      options.onProgress({ table: table.written, rows: met, of: Math.max(of, met) });
    },
    onCandidates: async (candidates) => {
      waiting.push(...candidates);
      if (waiting.length >= MOST_CANDIDATES) await decide();
    },
  });
  await decide();
  return { ...counts, rows: seen };
}

interface Describing extends Rows {
  readonly columns: readonly string[];
  readonly key: readonly string[];
  readonly signal: AbortSignal;
}

async function describe(listed: readonly Listed[], about: Describing): Promise<RowDifference[]> {
  if (listed.length === 0) return [];
  const { here, there, columns, key, signal } = about;
  const keys = listed.map((one) => one.key);
  const [ours, theirs] = await Promise.all([
    here.images(here.list(keys), signal),
    there.images(there.list(keys), signal),
  ]);
  return listed.map((one, n) => {
    const [left, right] = [ours[n] ?? null, theirs[n] ?? null];
    const kind = one.there === null ? "only here" : one.here === null ? "only there" : "different";
    return {
      kind,
      key: named(key, one.key),
      columns: left && right ? columns.filter((_, place) => left.hashes[place] !== right.hashes[place]) : [],
      here: stampOf(left),
      there: stampOf(right),
      in_flight: one.inFlight,
    };
  });
}

function stampOf(image: RowImage | null): StampText | null {
  if (!image) return null;
  const [version = null, updated_at = null, updated_by = null] = image.stamp;
  return { version, updated_at, updated_by };
}

function named(columns: readonly string[], key: readonly string[]): Record<string, string> {
  return Object.fromEntries(columns.map((name, place) => [name, key[place] ?? ""]));
}

function uncomparable({ table, lagSeconds }: VerifyTableOptions, problem: string): TableReport {
  return {
    table: table.written,
    verdict: "different",
    rows_here: null,
    rows_there: null,
    only_here: 0,
    only_there: 0,
    different: 0,
    in_flight: 0,
    columns_only_here: [],
    columns_only_there: [],
    problem,
    lag_seconds: lagSeconds,
    newest_here: [],
    newest_there: [],
    differences: [],
  };
}
