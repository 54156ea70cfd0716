/**
 * Trying again what is in the inbox: at the end of an apply transaction, when later changes may have cleared the way, and
 * when an attempt is due. In both orders until nothing more goes, then the changes of one transaction together: rows that
 * hold each other up (swapped unique values, mutual references) go together or not at all.
 */
import type { ApplyBatch } from "../../../src/core/target_store.ts";
import { type Connection, textArray } from "../connection.ts";
import type { Catalog } from "./catalog.ts";
import type { Executor, SessionMode } from "./execute.ts";
import { isConstraintFailure, rowFailure, throwable } from "./failures.ts";
import { notePending } from "./inbox.ts";
import { inOrder, planGroup, type Unit, type WholeChunk } from "./plan.ts";

export interface RetryContext {
  readonly connection: Connection;
  readonly schema: string;
  readonly catalog: Catalog;
  readonly executor: Executor;
  readonly mode: SessionMode;
}

interface Parked {
  readonly id: string;
  readonly chunk: WholeChunk;
  state: string;
  message: string;
}

const MOST_ROUNDS = 8;

/** Returns the ids that are still parked. Those applied, or beaten, are gone from the inbox. */
export async function retryInbox(
  context: RetryContext,
  ids: readonly string[],
  countAttempt: boolean,
): Promise<ReadonlySet<string>> {
  let pending = await read(context, ids);
  for (let round = 0; round < MOST_ROUNDS && pending.length > 0; round++) {
    const order = round % 2 === 0 ? pending : [...pending].reverse();
    const left = new Set(await oneByOne(context, order));
    const progress = left.size < pending.length;
    pending = pending.filter((row) => left.has(row));
    // Both orders were tried since the last one that went.
    if (!progress && round > 0) break;
  }
  pending = await together(context, pending);
  if (pending.length > 0) await notePending(context.connection, context.schema, pending, countAttempt);
  return new Set(pending.map((row) => row.id));
}

async function read({ connection, schema, catalog }: RetryContext, ids: readonly string[]): Promise<Parked[]> {
  const rows = await connection.query<Record<string, string>>(
    `SELECT id, epoch, sequence, cut_no, transaction_id, queue_id, schema_name, table_name, operation, error_code, error,
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
    // The inbox keeps the row alone: key and stamp go by the names they have here.
    key: known?.key.map((column) => column.name) ?? [],
    stamp: known?.stamp ?? (["version", "updated_at", "updated_by"] as const),
  };
  const columns = JSON.parse(row.columns ?? "[]") as readonly string[];
  const chunk = { piece: { header, batch }, source: { kind: "inbox", ids: [id] } as const, columns };
  return { id, chunk, state: row.error_code ?? "", message: row.error ?? "" };
}

/** One pass; neighbours of one kind in one round trip. Returns what failed again. */
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
      left.push(row);
    });
  }
  await remove(context, done);
  return left;
}

/** Units of neighbouring rows of one table, kind and column set. Rows that cannot be tried at all go to `left`. */
function runs(rows: readonly Parked[], catalog: Catalog, left: Parked[]): { unit: Unit; members: Parked[] }[] {
  const found: { key: string; unit: Unit; members: Parked[] }[] = [];
  for (const row of rows) {
    const plan = planGroup([row.chunk], catalog, "deletes-first");
    const [unit] = plan.captured;
    if (!unit) {
      row.state = plan.refused[0]?.code ?? row.state;
      row.message = plan.refused[0]?.message ?? row.message;
      left.push(row);
      continue;
    }
    const { operation, schema, table } = row.chunk.piece.header;
    const key = JSON.stringify([schema, table, operation, row.chunk.columns]);
    const last = found.at(-1);
    if (last?.key === key) last.members.push(row);
    else found.push({ key, unit, members: [row] });
  }
  return found.map(({ unit, members }) => ({ unit: withRows(unit, members), members }));
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
    const transaction = row.chunk.piece.header.transaction;
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
    const { schema, table, operation } = row.chunk.piece.header;
    const key = JSON.stringify([schema, table, operation === "INSERT" ? "UPDATE" : operation, row.chunk.columns]);
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

async function remove({ connection, schema }: RetryContext, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  await connection.execute(`DELETE FROM ${schema}.inbox WHERE id = ANY ($1::text::bigint[])`, [textArray(ids)]);
}
