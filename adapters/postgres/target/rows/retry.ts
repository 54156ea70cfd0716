/**
 * Trying again what is in the inbox: at the end of an apply transaction, when later changes may have cleared the way, and
 * when an attempt is due. In both orders until nothing more goes, then the changes of one transaction together: rows that
 * hold each other up (swapped unique values, mutual references) go together or not at all.
 */
import type { ApplyBatch } from "../../../../src/core/target_store.ts";
import { type Connection, textArray } from "../../connection.ts";
import type { Catalog } from "../catalog/catalog.ts";
import { type ArbitrationContext, arbitrate, type Disputed, isArbitrable } from "../conflicts/arbitrate.ts";
import { type DeadLetter, notePending } from "../parking/inbox.ts";
import type { Executor, SessionMode } from "./execute.ts";
import { isConstraintFailure, rowFailure, throwable, waitsForSchema } from "./failures.ts";
import { inOrder, planGroup, type Unit, type WholeChunk } from "./plan.ts";
import type { FailureFacts } from "./row_block.ts";

export interface RetryContext {
  readonly connection: Connection;
  readonly schema: string;
  readonly catalog: Catalog;
  readonly executor: Executor;
  readonly mode: SessionMode;
  readonly completes: ArbitrationContext["completes"];
  readonly leavesUnique: ArbitrationContext["leavesUnique"];
}

interface Parked {
  readonly id: string;
  readonly source: string;
  readonly chunk: WholeChunk;
  /** What the inbox says: the code, and a text that begins with the message. */
  readonly known: { readonly state: string; readonly error: string };
  state: string;
  message: string;
  facts: FailureFacts | undefined;
}

const MOST_ROUNDS = 8;
/** Changes at hand at a time: of each a header is kept, never its values (I11). */
const PAGE = 2_000;

/** What is left of retried changes, by inbox id. Those applied, beaten or overridden are gone from the inbox. */
export interface Retried {
  readonly pending: ReadonlySet<string>;
  /** Refused for good by a captured change of ours (law 3). */
  readonly overridden: ReadonlySet<string>;
  /** Of the pending ones those refused for another reason than before. */
  readonly moved: ReadonlySet<string>;
  readonly dead: readonly DeadLetter[];
}

/** `maxAttempts`: after how many an attempt of its own makes a dead letter; null: at the end of the transaction that parks. */
export async function retryInbox(
  context: RetryContext,
  ids: readonly string[],
  maxAttempts: number | null,
): Promise<Retried> {
  const pending = new Set<string>();
  const overridden = new Set<string>();
  const moved = new Set<string>();
  const dead: DeadLetter[] = [];
  for (let first = 0; first < ids.length; first += PAGE) {
    const left = await retryPage(context, ids.slice(first, first + PAGE), overridden);
    for (const { id, known, state } of left) {
      pending.add(id);
      if (known.state !== state) moved.add(id);
    }
    const changed = maxAttempts === null ? left.filter((row) => !isKnown(row)) : left;
    if (changed.length > 0)
      dead.push(...(await notePending(context.connection, context.schema, changed.map(asPending), maxAttempts)));
  }
  return { pending, overridden, moved, dead };
}

/** Returns what is still pending, with its latest error. */
async function retryPage(
  context: RetryContext,
  ids: readonly string[],
  overridden: Set<string>,
): Promise<readonly Parked[]> {
  let pending = await read(context, ids);
  for (let round = 0; round < MOST_ROUNDS && pending.length > 0; round++) {
    const order = round % 2 === 0 ? pending : [...pending].reverse();
    const left = new Set(await oneByOne(context, order));
    const progress = left.size < pending.length;
    pending = pending.filter((row) => left.has(row));
    // Both orders were tried since the last one that went.
    if (!progress && (round > 0 || pending.length === 1)) break;
  }
  pending = await together(context, pending);
  return decided(context, pending, overridden);
}

function isKnown({ known, state, message }: Parked): boolean {
  return known.state === state && known.error.startsWith(message);
}

function asPending({ id, known, state, message, facts }: Parked) {
  return { id, state, message, facts, afresh: waitsForSchema(known.state) && !waitsForSchema(state) };
}

async function read({ connection, schema, catalog }: RetryContext, ids: readonly string[]): Promise<Parked[]> {
  const rows = await connection.query<Record<string, string>>(
    `SELECT id, source_contour, epoch, sequence, cut_no, transaction_id, queue_id, schema_name, table_name, operation, error_code, error,
  array_to_json(key_columns)::text AS key, array_to_json(stamp_columns)::text AS stamp, facts::text AS facts,
  CASE WHEN operation IN ('DELETE', 'TRUNCATE') THEN '[]'
       ELSE (SELECT json_agg(k)::text FROM json_object_keys(data::json) k) END AS columns
FROM ${schema}.inbox WHERE id = ANY ($1::text::bigint[]) ORDER BY epoch, sequence, id`,
    [textArray(ids)],
    { action: "read parked changes" },
  );
  return rows.map((row) => parked(row, catalog));
}

function parked(row: Readonly<Record<string, string>>, catalog: Catalog): Parked {
  const { id = "", schema_name: schema = "", table_name: table = "", operation = "" } = row;
  const known = catalog.tables.get(`${schema}\u0000${table}`);
  const batch: ApplyBatch = {
    epoch: Number(row.epoch),
    sequence: Number(row.sequence),
    cutNo: Number(row.cut_no),
    endsCut: false,
    next: { identity: "", offset: "" },
    kind: "frames",
    chunks: [],
    events: [],
  };
  const header = {
    schema,
    table,
    operation: operation as "INSERT",
    transaction: row.transaction_id ?? "",
    first_queue_id: row.queue_id ?? "",
    captured_at: "",
    rows: 1,
    // As the source calls them; a row parked before that was noted goes by the names they have here.
    key: names(row.key) ?? known?.key.map((column) => column.name) ?? [],
    stamp: stampNames(row.stamp) ?? known?.stamp ?? (["version", "updated_at", "updated_by"] as const),
  };
  const columns = JSON.parse(row.columns ?? "[]") as readonly string[];
  const chunk = { piece: { header, batch }, source: { kind: "inbox", ids: [id] } as const, columns };
  const { source_contour: source = "", error_code: state = "", error = "" } = row;
  // Names and codes only: no row value is in here (I7).
  const facts = row.facts ? (JSON.parse(row.facts) as FailureFacts) : undefined;
  return { id, source, chunk, known: { state, error }, state, message: error, facts };
}

function names(json: string | null | undefined): readonly string[] | null {
  return json ? (JSON.parse(json) as readonly string[]) : null;
}

function stampNames(json: string | null | undefined): readonly [string, string, string] | null {
  const [version, updatedAt, updatedBy] = names(json) ?? [];
  return version && updatedAt && updatedBy ? [version, updatedAt, updatedBy] : null;
}

/** One pass; those of one kind in one round trip. Returns what failed again. */
async function oneByOne(context: RetryContext, rows: readonly Parked[]): Promise<Parked[]> {
  const left: Parked[] = [];
  const done: string[] = [];
  for (const { unit, members } of runs(rows, context.catalog, left)) {
    const { failed } = await context.executor.rowByRow(context.connection, unit, context.mode);
    const failures = new Map(failed.map((failure) => [failure.n, failure]));
    members.forEach((row, n) => {
      const failure = failures.get(n);
      if (!failure) {
        done.push(row.id);
        return;
      }
      row.state = failure.state;
      row.message = failure.message;
      row.facts = failure.facts;
      left.push(row);
    });
  }
  await remove(context, done);
  return left;
}

/**
 * Units of rows of one table, kind and column set, in the order in which the first of each comes: each row is tried by
 * itself, so that nothing hangs on what stands between them. Rows that cannot be tried at all go to `left`.
 */
function runs(rows: readonly Parked[], catalog: Catalog, left: Parked[]): { unit: Unit; members: Parked[] }[] {
  const found = new Map<string, { readonly unit: Unit; readonly members: Parked[] }>();
  for (const row of rows) {
    const plan = planGroup([row.chunk], catalog, "deletes-first");
    const [unit] = plan.captured;
    if (!unit) {
      row.state = plan.refused[0]?.code ?? row.state;
      row.message = plan.refused[0]?.message ?? row.message;
      row.facts = undefined;
      left.push(row);
      continue;
    }
    const { operation, schema, table, stamp } = row.chunk.piece.header;
    const key = JSON.stringify([schema, table, operation, stamp, row.chunk.columns]);
    const known = found.get(key);
    if (known) known.members.push(row);
    else found.set(key, { unit, members: [row] });
  }
  return [...found.values()].map(({ unit, members }) => ({ unit: withRows(unit, members), members }));
}

function withRows(unit: Unit, members: readonly Parked[]): Unit {
  const pieces = members.map((row) => row.chunk.piece);
  return { ...unit, pieces, rows: members.length, source: { kind: "inbox", ids: members.map((row) => row.id) } };
}

/** Per source transaction, set-wise, in a savepoint. Returns what is still pending. */
async function together(context: RetryContext, rows: readonly Parked[]): Promise<Parked[]> {
  const groups = new Map<string, Parked[]>();
  for (const row of rows) {
    if (!isConstraintFailure(row.state)) continue;
    const transaction = `${row.source} ${row.chunk.piece.header.transaction}`;
    groups.set(transaction, [...(groups.get(transaction) ?? []), row]);
  }
  const gone = new Set<Parked>();
  for (const group of groups.values()) {
    if (group.length > 1 && (await asOne(context, group))) for (const row of group) gone.add(row);
  }
  return rows.filter((row) => !gone.has(row));
}

async function asOne(context: RetryContext, group: readonly Parked[]): Promise<boolean> {
  const { connection, mode, executor, catalog } = context;
  const sorted = new Map<string, Parked[]>();
  for (const row of group) {
    const { schema, table, operation, stamp } = row.chunk.piece.header;
    const kind = operation === "INSERT" ? "UPDATE" : operation;
    const key = JSON.stringify([schema, table, kind, stamp, row.chunk.columns]);
    sorted.set(key, [...(sorted.get(key) ?? []), row]);
  }
  const units = inOrder(
    [...sorted.values()].flatMap((rows) => runs(rows, catalog, []).map((run) => run.unit)),
    mode === "replica" ? "deletes-first" : "upserts-first",
  );
  await connection.script("SAVEPOINT replicator_together; SET CONSTRAINTS ALL DEFERRED");
  try {
    await executor.setWise(connection, units, mode);
    await connection.script("SET CONSTRAINTS ALL IMMEDIATE; RELEASE SAVEPOINT replicator_together");
  } catch (error) {
    if (rowFailure(error) === null) throw throwable(error);
    await connection.script("ROLLBACK TO SAVEPOINT replicator_together; RELEASE SAVEPOINT replicator_together");
    return false;
  }
  await remove(
    context,
    group.map((row) => row.id),
  );
  return true;
}

/** Law 3 for what no order and no company helps. Returns what is still pending. */
async function decided(context: RetryContext, rows: readonly Parked[], overridden: Set<string>): Promise<Parked[]> {
  const refused = rows.filter((row) => isArbitrable(row.state));
  const disputes = refused.flatMap((row): Disputed[] => {
    const [run] = runs([row], context.catalog, []);
    const { id, source, state, message, chunk } = row;
    const { transaction } = chunk.piece.header;
    return run ? [{ id, unit: run.unit, state, message, source, transaction }] : [];
  });
  if (disputes.length === 0) return [...rows];
  const done = await arbitrate(context, disputes);
  const latest = new Map(disputes.map((dispute) => [dispute.id, dispute]));
  for (const row of refused) {
    row.state = latest.get(row.id)?.state ?? row.state;
    row.message = latest.get(row.id)?.message ?? row.message;
  }
  for (const [id, decision] of done) if (decision === "overridden") overridden.add(id);
  await remove(context, [...done.keys()]);
  return rows.filter((row) => !done.has(row.id));
}

async function remove({ connection, schema }: RetryContext, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  await connection.execute(`DELETE FROM ${schema}.inbox WHERE id = ANY ($1::text::bigint[])`, [textArray(ids)]);
}
