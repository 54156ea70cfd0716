/** `replicator generate`: makes the tables it writes to, and writes set-wise, on as many connections as the rate asks for. */
import type { GeneratedTable, GeneratorOptions, GeneratorTotals, TableOptions } from "../../../src/core/admin.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { isAbort, ReplicatorError } from "../../../src/core/errors.ts";
import { type Connection, type Database, rollback, textArray } from "../connection.ts";
import { type Generated, withParents } from "./generator_tables.ts";
import { addTable } from "./tables.ts";

/** Returns lines for a person. A table that is under replication already stays as it is, polled or captured. */
export async function prepareGenerator(
  db: Database,
  signal: AbortSignal,
  asked: readonly GeneratedTable[] = ["users", "payments"],
  optionsOf: (table: GeneratedTable) => TableOptions = () => ({}),
): Promise<readonly string[]> {
  const tables = withParents(asked);
  const listed = tables.map(({ table }) => table).join(", ");
  await assertOurs(db, tables, signal);
  const connection = await db.reserve(signal);
  try {
    await connection.script(tables.map(({ ddl }) => ddl).join("\n"), { action: `make the tables ${listed}`, signal });
  } finally {
    connection.release();
  }
  const [state] = await db.query<{ installed: string }>(
    db.ours(`SELECT (to_regclass('"replicator".replicated_table') IS NOT NULL)::text AS installed`),
    [],
    { action: "look for the replicator's objects", signal },
  );
  if (state?.installed !== "true") return [`${listed} are not under replication: run replicator setup first`];
  const known = await db.query<{ table_name: string }>(
    db.ours(`SELECT table_name FROM "replicator".replicated_table WHERE removed_at IS NULL AND schema_name = 'public'`),
    [],
    { action: "list the replicated tables", signal },
  );
  const lines: string[] = [];
  for (const { table } of tables) {
    if (known.some(({ table_name }) => table_name === table)) continue;
    lines.push(...(await addTable(db, table, optionsOf(table), false, signal)));
  }
  return lines;
}

const FOREIGN = `
SELECT w.t || '.' || w.c AS missing
  FROM unnest($1::text::text[], $2::text::text[]) AS w(t, c)
  JOIN pg_class r ON r.relname = w.t AND r.relnamespace = 'public'::regnamespace
 WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attname = w.c AND NOT a.attisdropped)`;

/** Tables of these names may be somebody else's: nothing is written into those. @throws ReplicatorError `generate.foreign_tables` */
async function assertOurs(db: Database, tables: readonly Generated[], signal: AbortSignal): Promise<void> {
  const pairs = tables.flatMap(({ table, columns }) => columns.map((column) => ({ table, column })));
  const rows = await db.query<{ missing: string }>(
    FOREIGN,
    [textArray(pairs.map(({ table }) => table)), textArray(pairs.map(({ column }) => column))],
    { action: "look at the tables to generate into", signal },
  );
  if (rows.length === 0) return;
  const names = tables.map(({ table }) => table).join(" and ");
  throw new ReplicatorError({
    code: "generate.foreign_tables",
    message: `Cannot generate into ${names} of ${db.label}: they are not those of the generator, found no ${rows.map(({ missing }) => missing).join(", ")}`,
    retry: "never",
    fault: "environment",
    remedy: "Name a database for trying things out: --database-url",
  });
}

interface Counted {
  inserted: number;
  updated: number;
  deleted: number;
}

/** Units of a round where no rate is kept: the cost of a statement is shared by as many rows. */
const MOST_UNITS = 500;
const ROUNDS_PER_SECOND = 60;
const PROGRESS_MS = 1_000;

export async function generate(db: Database, options: GeneratorOptions, signal: AbortSignal): Promise<GeneratorTotals> {
  const totals: Counted = { inserted: 0, updated: 0, deleted: 0 };
  const tables = withParents(options.tables ?? ["users", "payments"]);
  const failed = new AbortController();
  const until = AbortSignal.any([signal, failed.signal]);
  const writers = Array.from({ length: options.connections }, (_, place) =>
    write(db, totals, { tables, pace: paceOf(options, tables), phase: place / options.connections }, until),
  );
  const progress = report(totals, options, until);
  try {
    await Promise.all(
      writers.map((writer) =>
        writer.catch((error: unknown) => {
          failed.abort();
          if (!isAbort(error)) throw error;
        }),
      ),
    );
  } finally {
    failed.abort();
    await progress;
    options.onProgress({ ...totals });
  }
  return { ...totals };
}

async function report(totals: Counted, options: GeneratorOptions, until: AbortSignal): Promise<void> {
  while (!until.aborted) {
    await systemClock.sleep(PROGRESS_MS, until);
    if (!until.aborted) options.onProgress({ ...totals });
  }
}

interface Pace {
  /** Sets of keys a round has; a unit is a user with what belongs to it. */
  readonly units: number;
  /** From the beginning of a round to that of the next one; 0: at once. */
  readonly pauseMs: number;
}

/** Row changes of a unit of each table, on average: the rate is kept with it. */
const CHANGES: Readonly<Record<GeneratedTable, number>> = {
  users: 2,
  payments: 6,
  orders: 11 / 3,
  products: 2.25,
  categories: 0.5,
};

function paceOf({ rate, connections }: GeneratorOptions, tables: readonly Generated[]): Pace {
  if (rate === null) return { units: MOST_UNITS, pauseMs: 0 };
  const unit = tables.reduce((sum, { table }) => sum + CHANGES[table], 0);
  const units = Math.min(MOST_UNITS, Math.max(1, Math.ceil(rate / connections / unit / ROUNDS_PER_SECOND)));
  return { units, pauseMs: (units * unit * 1_000 * connections) / rate };
}

interface Writing {
  readonly tables: readonly Generated[];
  readonly pace: Pace;
  /** Part of the pause before the first round, so that the writers do not write all at once. */
  readonly phase: number;
}

/** Rounds at an even pace; one that took longer than the pace is followed at once until the rate is kept again. */
async function write(db: Database, totals: Counted, writing: Writing, until: AbortSignal): Promise<void> {
  const { units, pauseMs } = writing.pace;
  const connection = await db.reserve(until);
  try {
    let due = systemClock.monotonic() + pauseMs * writing.phase;
    for (let number = 0; !until.aborted; number++) {
      if (pauseMs > 0) await systemClock.sleep(Math.max(0, due - systemClock.monotonic()), until);
      if (until.aborted) return;
      const done = await round(connection, writing.tables, units, number);
      totals.inserted += done?.inserted ?? 0;
      totals.updated += done?.updated ?? 0;
      totals.deleted += done?.deleted ?? 0;
      due = Math.max(due + pauseMs, systemClock.monotonic() - 1_000);
    }
  } finally {
    connection.release();
  }
}

/** Keys are below 2^52, four of them to a unit. */
const NUMBERS = 2 ** 50 - 1_000;

/** One transaction, sent in one go. Null: it met another one, and was rolled back. */
async function round(
  connection: Connection,
  tables: readonly Generated[],
  units: number,
  number: number,
): Promise<Counted | null> {
  const first = String(Math.floor(Math.random() * NUMBERS));
  const work = tables.flatMap((one) => one.work.filter(({ every }) => number % every === 0));
  const action = "write generated rows";
  const sent = [
    connection.execute("BEGIN", [], { action }),
    ...work.map(({ text }) => connection.execute(text, [first, units], { action })),
  ];
  const counts: number[] = [];
  try {
    for (const answer of await Promise.allSettled(sent)) {
      if (answer.status === "rejected") throw answer.reason;
      counts.push(answer.value);
    }
    await connection.execute("COMMIT", [], { action });
  } catch (error) {
    await rollback(connection);
    if (error instanceof ReplicatorError && error.code === "database.serialization") return null;
    throw error;
  }
  const done: Counted = { inserted: 0, updated: 0, deleted: 0 };
  for (const [n, { kind }] of work.entries()) done[kind] += counts[n + 1] ?? 0;
  return done;
}
