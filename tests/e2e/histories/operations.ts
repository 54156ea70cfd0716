/**
 * The operations of the simulated histories (tests/simulation/workload/operations.ts) in SQL, by the same names: one that
 * is added there is missing here, and the types say so.
 */
import type { TransactionSql } from "postgres";
import type { Random } from "../../simulation/kernel/random.ts";
import { ACCOUNT_KEYS, BALANCE, type OperationName, POISON } from "../../simulation/workload/operations.ts";

export interface Session {
  readonly tx: TransactionSql;
  readonly random: Random;
  /** Keys of each table. */
  readonly keys: number;
  /** A value nobody has written before. */
  fresh(): string;
}

type Values = Readonly<Record<string, string | number | null>>;
type Run = (session: Session) => Promise<unknown>;

const key = ({ random, keys }: Session) => `k${random.whole(1, keys)}`;
const childKey = ({ random, keys }: Session) => `k${random.whole(1, keys + 2)}`;
const value = (session: Session) => ({ value: session.fresh() });
const email = ({ random }: Session) => ({ email: random.chance(0.1) ? null : `e${random.whole(1, 3)}` });
const phone = ({ random }: Session) => ({ phone: random.chance(0.4) ? null : `p${random.whole(1, 3)}` });

/** Updates the row, or inserts it where there is none. */
async function put({ tx }: Session, table: string, at: string, values: Values): Promise<void> {
  const { count } = await tx`UPDATE ${tx(table)} SET ${tx(values)} WHERE key = ${at}`;
  if (count === 0) await tx`INSERT INTO ${tx(table)} ${tx({ key: at, ...values })}`;
}

const remove = ({ tx }: Session, table: string, at: string) => tx`DELETE FROM ${tx(table)} WHERE key = ${at}`;

function move(session: Session, table: string) {
  const [from, to] = [key(session), key(session)];
  return session.tx`UPDATE ${session.tx(table)} SET key = ${to} WHERE key = ${from}`;
}

const child = (session: Session, table: string) =>
  put(session, table, childKey(session), { parent: key(session), value: session.fresh() });

/** Lines of it add up to more than a lane keeps of one transaction. */
const BULK = { rows: 9, bytes: 520_000 };
/** More than a message holds. */
const HUGE_BYTES = 1_100_000;

/** Null: nothing an application does. */
export const OPERATIONS: Readonly<Record<OperationName, Run | null>> = {
  put: (session) => put(session, "items", key(session), value(session)),
  add: (session) => session.tx`INSERT INTO items ${session.tx({ key: key(session), ...value(session) })}`,
  remove: (session) => remove(session, "items", key(session)),
  reinsert: async (session) => {
    const at = key(session);
    await remove(session, "items", at);
    await put(session, "items", at, value(session));
  },
  touchTwice: async (session) => {
    await session.tx`SELECT set_config('history.twice', 'on', true)`;
    await put(session, "items", key(session), value(session));
    await session.tx`SELECT set_config('history.twice', 'off', true)`;
  },
  changeKey: (session) => move(session, "items"),
  truncate: ({ tx }) => tx`TRUNCATE items`,
  snapshot: null,
  poison: (session) => put(session, "items", key(session), { value: `${POISON} ${session.fresh()}` }),
  putUser: (session) => put(session, "users", key(session), { ...email(session), ...value(session) }),
  callUser: (session) => put(session, "users", key(session), { ...email(session), ...phone(session) }),
  removeUser: (session) => remove(session, "users", key(session)),
  renameUser: (session) => move(session, "users"),
  swapEmails: async (session) => {
    const { tx } = session;
    const [one, other] = [key(session), key(session)];
    if (one === other) return;
    const rows = await tx`SELECT key, email FROM users WHERE key IN (${one}, ${other}) ORDER BY key FOR UPDATE`;
    const of = (wanted: string): string | null => rows.find((row) => row.key === wanted)?.email ?? null;
    if (rows.length < 2) return;
    await put(session, "users", one, { email: null });
    await put(session, "users", other, { email: of(one) });
    await put(session, "users", one, { email: of(other) });
  },
  putParent: (session) => put(session, "parents", key(session), value(session)),
  codeParent: (session) => put(session, "parents", key(session), { code: `c${session.random.whole(1, 2)}` }),
  removeParent: (session) => remove(session, "parents", key(session)),
  putChild: (session) => child(session, "children"),
  putLeaf: (session) => child(session, "leaves"),
  putNote: (session) => child(session, "notes"),
  removeChild: (session) => remove(session, session.random.pick(["children", "leaves", "notes"]), childKey(session)),
  family: async (session) => {
    const parent = key(session);
    await put(session, "parents", parent, value(session));
    await put(session, "children", childKey(session), { parent, ...value(session) });
  },
  removeFamily: async (session) => {
    const parent = key(session);
    await session.tx`DELETE FROM children WHERE parent = ${parent}`;
    await remove(session, "parents", parent);
  },
  transfer: async ({ tx, random }) => {
    const [from, to] = [random.pick(ACCOUNT_KEYS), random.pick(ACCOUNT_KEYS)];
    if (from === to) return;
    const accounts = ACCOUNT_KEYS.map((account) => ({ key: account, balance: BALANCE }));
    await tx`INSERT INTO accounts ${tx(accounts)} ON CONFLICT DO NOTHING`;
    const amount = random.whole(1, 9);
    await tx`UPDATE accounts SET balance = balance - ${amount} WHERE key = ${from}`;
    await tx`UPDATE accounts SET balance = balance + ${amount} WHERE key = ${to}`;
  },
  putEvent: (session) => put(session, "events", key(session), value(session)),
  removeEvent: (session) => remove(session, "events", key(session)),
  moveEvent: (session) => move(session, "events"),
  truncateEvents: ({ tx }) => tx`TRUNCATE events`,
  bulk: async (session) => {
    const text = "\ufeffx".repeat(BULK.bytes / 4);
    for (let n = 1; n <= BULK.rows; n++) await put(session, "items", `bulk${n}`, { value: session.fresh() + text });
  },
  huge: (session) =>
    put(session, session.random.pick(["items", "events"]), key(session), {
      value: session.fresh() + "\ufeffx".repeat(HUGE_BYTES / 4),
    }),
};
