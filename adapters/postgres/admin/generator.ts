/** `replicator generate`: users and payments (a foreign key between them), written by as many connections as the rate asks for. */
import type { GeneratorOptions, GeneratorTotals } from "../../../src/core/admin.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { isAbort, ReplicatorError } from "../../../src/core/errors.ts";
import type { Connection, Database } from "../connection.ts";
import { addTable } from "./tables.ts";

// Keys are drawn at random from 2^52: two contours may generate at once without a sequence they would share.
const TABLES = `
CREATE TABLE IF NOT EXISTS public.users (
    id bigint PRIMARY KEY DEFAULT (random() * 4503599627370496)::bigint,
    name text NOT NULL,
    email text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS public.payments (
    id bigint PRIMARY KEY DEFAULT (random() * 4503599627370496)::bigint,
    user_id bigint NOT NULL REFERENCES public.users ON DELETE CASCADE DEFERRABLE INITIALLY IMMEDIATE,
    amount numeric(12, 2) NOT NULL,
    status text NOT NULL DEFAULT 'new',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS payments_user_id ON public.payments (user_id);`;

const GENERATED = ["users", "payments"] as const;

/** Returns lines for a person. */
export async function prepareGenerator(db: Database, signal: AbortSignal): Promise<readonly string[]> {
  await assertOurs(db, signal);
  const connection = await db.reserve(signal);
  try {
    await connection.script(TABLES, { action: "make the tables users and payments", signal });
  } finally {
    connection.release();
  }
  const [state] = await db.query<{ installed: string }>(
    db.ours(`SELECT (to_regclass('"replicator".replicated_table') IS NOT NULL)::text AS installed`),
    [],
    { action: "look for the replicator's objects", signal },
  );
  if (state?.installed !== "true") return ["users and payments are not under replication: run replicator setup first"];
  const known = await db.query<{ table_name: string }>(
    db.ours(`SELECT table_name FROM "replicator".replicated_table WHERE removed_at IS NULL AND schema_name = 'public'`),
    [],
    { action: "list the replicated tables", signal },
  );
  const lines: string[] = [];
  for (const table of GENERATED) {
    if (known.some(({ table_name }) => table_name === table)) continue;
    lines.push(...(await addTable(db, table, {}, false, signal)));
  }
  return lines;
}

const FOREIGN = `
SELECT w.t || '.' || w.c AS missing
  FROM (VALUES ('users', 'id'), ('users', 'name'), ('users', 'email'), ('payments', 'id'), ('payments', 'user_id'),
               ('payments', 'amount'), ('payments', 'status')) AS w(t, c)
  JOIN pg_class r ON r.relname = w.t AND r.relnamespace = 'public'::regnamespace
 WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attname = w.c AND NOT a.attisdropped)`;

/** Tables of these names may be somebody else's: nothing is written into those. @throws ReplicatorError `generate.foreign_tables` */
async function assertOurs(db: Database, signal: AbortSignal): Promise<void> {
  const rows = await db.query<{ missing: string }>(FOREIGN, [], { action: "look at users and payments", signal });
  if (rows.length === 0) return;
  throw new ReplicatorError({
    code: "generate.foreign_tables",
    message: `Cannot generate into users and payments of ${db.label}: they are not those of the generator, found no ${rows.map(({ missing }) => missing).join(", ")}`,
    retry: "never",
    fault: "environment",
    remedy: "Name a database for trying things out: --database-url",
  });
}

/** One transaction: a user with payments, some updates, now and then a delete. Ten row changes on average. */
const ROUND = {
  user: `INSERT INTO public.users (name, email) SELECT 'user ' || n, 'user' || n || '@example.com' FROM (SELECT (random() * 1e9)::bigint AS n) r RETURNING id`,
  payments: `INSERT INTO public.payments (user_id, amount) SELECT $1::bigint, round((random() * 1000)::numeric, 2) FROM generate_series(1, 3)`,
  pay: `UPDATE public.payments SET status = 'paid' WHERE id IN (SELECT id FROM public.payments WHERE user_id = $1::bigint LIMIT 2)`,
  rename: `UPDATE public.users SET name = name || '*' WHERE id = $1::bigint`,
  forget: `DELETE FROM public.payments WHERE user_id = $1::bigint AND status = 'paid'`,
} as const;

interface Counted {
  inserted: number;
  updated: number;
  deleted: number;
}

/** Row changes of a round, to keep the rate. */
const ROUND_CHANGES = 8;
const PROGRESS_MS = 1_000;

export async function generate(db: Database, options: GeneratorOptions, signal: AbortSignal): Promise<GeneratorTotals> {
  const totals: Counted = { inserted: 0, updated: 0, deleted: 0 };
  const pauseMs = (ROUND_CHANGES * 1_000 * options.connections) / options.rate;
  const failed = new AbortController();
  const until = AbortSignal.any([signal, failed.signal]);
  const writers = Array.from({ length: options.connections }, (_, place) =>
    write(db, totals, pauseMs, place / options.connections, until),
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

/** Rounds at an even pace; one that took longer than the pace is followed at once until the rate is kept again. */
async function write(db: Database, totals: Counted, pauseMs: number, phase: number, until: AbortSignal): Promise<void> {
  let due = systemClock.monotonic() + pauseMs * phase;
  while (!until.aborted) {
    await systemClock.sleep(Math.max(0, due - systemClock.monotonic()), until);
    if (until.aborted) return;
    const done = await db.transaction(round);
    totals.inserted += done.inserted;
    totals.updated += done.updated;
    totals.deleted += done.deleted;
    due = Math.max(due + pauseMs, systemClock.monotonic() - 1_000);
  }
}

async function round(connection: Connection): Promise<GeneratorTotals> {
  const [user] = await connection.query<{ id: string }>(ROUND.user);
  const id = user?.id ?? "0";
  const inserted = await connection.execute(ROUND.payments, [id]);
  const paid = await connection.execute(ROUND.pay, [id]);
  const renamed = await connection.execute(ROUND.rename, [id]);
  const deleted = Math.random() < 0.5 ? await connection.execute(ROUND.forget, [id]) : 0;
  return { inserted: 1 + inserted, updated: paid + renamed, deleted };
}
