/** Walks through a cut page by page with bounded memory, for chunks and for events alike (architecture §4.8, I11). */
import type { Cut } from "../../../src/core/source_store.ts";
import { type Connection, type Param, textArray } from "../connection.ts";
import type { Membership } from "./layout.ts";
import * as queries from "./queries.ts";
import { endedBetween, parseSnapshot } from "./snapshot.ts";

/** A line of a page; which fields besides it has depends on the shape. */
export type Line = Readonly<Record<string, string | null>>;

export interface Reading {
  readonly connection: Connection;
  readonly ours: (text: string) => string;
  readonly cut: Cut;
  readonly membership: Membership;
  readonly shape: queries.Shape;
  /** Bytes a row costs beyond its data: an event's envelope. */
  readonly rowCost: number;
  /** Further parameters of the shape. */
  readonly extra: readonly Param[];
  readonly signal: AbortSignal;
}

interface Entry {
  readonly xid: string;
  readonly rows: number;
  readonly cost: number;
}

/** A directory of a long backlog is sorted by the server before the first line comes. */
const DIRECTORY_TIMEOUT_MS = 600_000;
const DIRECTORY = "replicator_directory";

/** Pages of the cut, in order; the page after the one being worked on is fetched meanwhile. */
export function readPages(reading: Reading): AsyncGenerator<readonly Line[]> {
  return oneAhead(walk(reading));
}

async function* walk(reading: Reading): AsyncGenerator<readonly Line[]> {
  const { cut, membership, shape } = reading;
  const from = parseSnapshot(cut.snapFrom);
  const to = parseSnapshot(cut.snapTo);
  const late = `{${endedBetween(from, to).join(",")}}`;
  const members = [String(from.xmax), String(to.xmax), cut.snapTo, late, textArray(membership.tableIds)];

  const small = await ask(reading, queries.smallCutQuery(membership, shape), [...members, ...reading.extra]);
  if (small[0]?.fits === "t") {
    const lines = small.filter((line) => line.last_id !== null);
    if (lines.length > 0) yield lines;
    return;
  }
  for await (const run of runs(directory(reading, members))) {
    const [first] = run;
    if (first && run.length === 1 && isLarge(first)) yield* largeTransaction(reading, first.xid);
    else yield await ask(reading, queries.runQuery(membership, shape), runParams(reading, run));
  }
}

function runParams(reading: Reading, run: readonly Entry[]): Param[] {
  const xids = textArray(run.map((entry) => entry.xid));
  return [xids, textArray(reading.membership.tableIds), ...reading.extra];
}

/** Pages depend on committed rows only: every reader cuts a large transaction at the same places (I13). */
async function* largeTransaction(reading: Reading, xid: string): AsyncGenerator<readonly Line[]> {
  const text = queries.largeQuery(reading.membership, reading.shape, reading.rowCost);
  let last = "0";
  for (;;) {
    const lines = await ask(reading, text, [xid, last, textArray(reading.membership.tableIds), ...reading.extra]);
    if (lines.length === 0) return;
    for (const line of lines) if (BigInt(line.last_id ?? 0) > BigInt(last)) last = line.last_id ?? last;
    yield lines;
  }
}

/** One entry a transaction, in the cut's order, through a held cursor: no snapshot stays open, no list is kept whole. */
async function* directory(reading: Reading, members: readonly string[]): AsyncGenerator<readonly Entry[]> {
  const { connection, membership, rowCost, signal } = reading;
  const options = { signal, timeoutMs: DIRECTORY_TIMEOUT_MS, prepare: false, action: `list cut ${reading.cut.cutNo}` };
  const select = reading.ours(queries.directoryQuery(membership, members, rowCost));
  const declared = connection.query(`DECLARE ${DIRECTORY} CURSOR WITH HOLD FOR ${select}`, [], options);
  const fetchPage = async () => {
    const fetch = `FETCH ${queries.PAGE_TRANSACTIONS} FROM ${DIRECTORY}`;
    const rows = await connection.query<{ xid: string; queue_rows: string; cost: string }>(fetch, [], options);
    return rows.map((row) => ({ xid: row.xid, rows: Number(row.queue_rows), cost: Number(row.cost) }));
  };
  // Pipelined: the first page comes with the answer to DECLARE.
  const [, firstPage] = await Promise.all([declared, fetchPage()]);
  try {
    for (let page = firstPage; page.length > 0; page = await fetchPage()) yield page;
  } finally {
    if (!connection.broken && !signal.aborted) await connection.query(`CLOSE ${DIRECTORY}`, [], { prepare: false });
  }
}

function isLarge(entry: Entry): boolean {
  return entry.rows > queries.PAGE_ROWS || entry.cost > queries.PAGE_BYTES;
}

/** Transactions put together up to a page; a large one by itself. */
async function* runs(pages: AsyncGenerator<readonly Entry[]>): AsyncGenerator<readonly Entry[]> {
  let run: Entry[] = [];
  let rows = 0;
  let cost = 0;
  for await (const page of pages) {
    for (const entry of page) {
      const full =
        rows + entry.rows > queries.PAGE_ROWS ||
        cost + entry.cost > queries.PAGE_BYTES ||
        run.length === queries.PAGE_TRANSACTIONS;
      if (run.length > 0 && full) {
        yield run;
        run = [];
        rows = 0;
        cost = 0;
      }
      run.push(entry);
      rows += entry.rows;
      cost += entry.cost;
    }
  }
  if (run.length > 0) yield run;
}

function ask(reading: Reading, text: string, params: readonly Param[]): Promise<readonly Line[]> {
  const { signal, cut } = reading;
  return reading.connection.query(reading.ours(text), params, { signal, action: `read cut ${cut.cutNo}` });
}

/** Begins the next item before the present one is handed out. A failure surfaces at its own turn. */
async function* oneAhead<T>(source: AsyncGenerator<T>): AsyncGenerator<T> {
  const begin = () => {
    const next = source.next();
    // Observed when its turn comes; without this a consumer that stops early would leave a rejection unhandled.
    next.catch(() => undefined);
    return next;
  };
  let next = begin();
  try {
    for (;;) {
      const item = await next;
      if (item.done) return;
      next = begin();
      yield item.value;
    }
  } finally {
    await next.catch(() => undefined);
    await source.return(undefined);
  }
}
