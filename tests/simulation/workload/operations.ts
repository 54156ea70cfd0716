/**
 * What applications do. To add an operation: a line in OPERATIONS. It runs inside a transaction of a session; `yield*` a
 * statement of database/local.ts, `pause` where a person would think. What the database refuses rolls the transaction back.
 */
import type { Database } from "../database/database.ts";
import * as sql from "../database/local.ts";
import type { Values } from "../database/row.ts";
import { TABLES, type TableDefinition } from "../database/schema.ts";
import type { Step, Work } from "../database/task.ts";
import type { Transaction } from "../database/transaction.ts";
import type { Random } from "../kernel/random.ts";

export interface Session {
  readonly db: Database;
  readonly tx: Transaction;
  readonly random: Random;
  /** Keys of each table. */
  readonly keys: number;
  /** A value nobody has written before. */
  fresh(): string;
}

export interface Operation {
  /** Where it may run: transfers have one writer, so that their sum means something. */
  readonly onlyFirstContour?: boolean;
  run(session: Session): Work<void>;
}

const table = (name: string): TableDefinition => {
  const found = TABLES.find((one) => one.name === name);
  if (!found) throw new Error(`The model has no table "${name}"`);
  return found;
};

const ITEMS = table("items");
const USERS = table("users");
const PARENTS = table("parents");
const CHILDREN = table("children");
const LEAVES = table("leaves");
const NOTES = table("notes");
const ACCOUNTS = table("accounts");
const EVENTS = table("events");

/** What a CHECK of one contour refuses until it is mended. */
export const POISON = "poison";

export const ACCOUNT_KEYS = ["k1", "k2", "k3"];
export const BALANCE = 100;

const keyOf = ({ random, keys }: Session) => `k${random.whole(1, keys)}`;
/** More children than parents. */
const childKeyOf = ({ random, keys }: Session) => `k${random.whole(1, keys + 2)}`;
const pause = (random: Random): Step => ({ pauseMs: random.chance(0.5) ? 0 : random.next() ** 3 * 400 });

/** Inserts or updates, whichever the key asks for. */
function* put(session: Session, into: TableDefinition, key: string, values: Values, twice = false): Work<void> {
  const { db, tx } = session;
  const changed = yield* sql.update(db, tx, into, key, (old) => ({ ...old, ...values }), twice);
  if (changed) return;
  const whole = Object.fromEntries(into.columns.map((column) => [column, values[column] ?? null]));
  yield* sql.insert(db, tx, into, key, whole);
}

function* putChild(session: Session, into: TableDefinition): Work<void> {
  yield* put(session, into, childKeyOf(session), { parent: keyOf(session), value: session.fresh() });
}

/** Lines of it add up to more than a lane keeps of one transaction: it is applied while it arrives. */
const BULK = { rows: 9, bytes: 520_000 };
/** More than a message holds: it travels in pieces. */
const HUGE_BYTES = 1_100_000;
/** Begins with what a decoder may take for a byte order mark, so that a piece does as well. */
const padding = (bytes: number) => "\ufeffx".repeat(bytes / 4);

const value = (session: Session) => ({ value: session.fresh() });
const email = ({ random }: Session) => ({ email: random.chance(0.1) ? null : `e${random.whole(1, 3)}` });
const phone = ({ random }: Session) => ({ phone: random.chance(0.4) ? null : `p${random.whole(1, 3)}` });

export const OPERATIONS = {
  put: { run: (session) => put(session, ITEMS, keyOf(session), value(session)) },
  add: { run: (session) => sql.insert(session.db, session.tx, ITEMS, keyOf(session), value(session)) },
  remove: {
    *run(session) {
      yield* sql.remove(session.db, session.tx, ITEMS, keyOf(session));
    },
  },
  reinsert: {
    *run(session) {
      const key = keyOf(session);
      yield* sql.remove(session.db, session.tx, ITEMS, key);
      yield pause(session.random);
      yield* put(session, ITEMS, key, value(session));
    },
  },
  touchTwice: { run: (session) => put(session, ITEMS, keyOf(session), value(session), true) },
  changeKey: {
    *run(session) {
      yield* sql.changeKey(session.db, session.tx, ITEMS, keyOf(session), keyOf(session));
    },
  },
  truncate: { run: ({ db, tx }) => sql.truncate(db, tx, ITEMS) },
  snapshot: { run: ({ db, tx, random }) => sql.sendSnapshot(db, tx, random.pick([ITEMS, USERS, PARENTS])) },
  poison: { run: (session) => put(session, ITEMS, keyOf(session), { value: `${POISON} ${session.fresh()}` }) },
  putUser: { run: (session) => put(session, USERS, keyOf(session), { ...email(session), ...value(session) }) },
  /** One row may then stand in the way of two others, and two in its way. */
  callUser: { run: (session) => put(session, USERS, keyOf(session), { ...email(session), ...phone(session) }) },
  removeUser: {
    *run(session) {
      yield* sql.remove(session.db, session.tx, USERS, keyOf(session));
    },
  },
  renameUser: {
    *run(session) {
      yield* sql.changeKey(session.db, session.tx, USERS, keyOf(session), keyOf(session));
    },
  },
  swapEmails: {
    *run(session) {
      const { db, tx } = session;
      const [one, other] = [keyOf(session), keyOf(session)];
      const [mine, theirs] = [db.row(USERS, one).read(tx), db.row(USERS, other).read(tx)];
      if (one === other || !mine || !theirs) return;
      yield* put(session, USERS, one, { email: null });
      yield* put(session, USERS, other, { email: mine.values.email ?? null });
      yield pause(session.random);
      yield* put(session, USERS, one, { email: theirs.values.email ?? null });
    },
  },
  putParent: { run: (session) => put(session, PARENTS, keyOf(session), value(session)) },
  codeParent: { run: (session) => put(session, PARENTS, keyOf(session), { code: `c${session.random.whole(1, 2)}` }) },
  removeParent: {
    *run(session) {
      yield* sql.remove(session.db, session.tx, PARENTS, keyOf(session));
    },
  },
  putChild: { run: (session) => putChild(session, CHILDREN) },
  putLeaf: { run: (session) => putChild(session, LEAVES) },
  putNote: { run: (session) => putChild(session, NOTES) },
  removeChild: {
    *run(session) {
      yield* sql.remove(session.db, session.tx, session.random.pick([CHILDREN, LEAVES, NOTES]), childKeyOf(session));
    },
  },
  family: {
    *run(session) {
      const key = keyOf(session);
      yield* put(session, PARENTS, key, value(session));
      yield* put(session, CHILDREN, childKeyOf(session), { parent: key, ...value(session) });
    },
  },
  removeFamily: {
    *run(session) {
      const { db, tx } = session;
      const key = keyOf(session);
      for (const child of sql.referring(db, tx, CHILDREN, key)) yield* sql.remove(db, tx, CHILDREN, child.key);
      yield pause(session.random);
      yield* sql.remove(db, tx, PARENTS, key);
    },
  },
  transfer: {
    onlyFirstContour: true,
    *run(session) {
      const { db, tx, random } = session;
      const [from, to] = [random.pick(ACCOUNT_KEYS), random.pick(ACCOUNT_KEYS)];
      if (from === to) return;
      const amount = random.whole(1, 9);
      const add = (by: number) => (old: Values) => ({ balance: String(Number(old.balance) + by) });
      if (!(yield* sql.update(db, tx, ACCOUNTS, from, add(-amount)))) {
        for (const key of ACCOUNT_KEYS) yield* sql.insert(db, tx, ACCOUNTS, key, { balance: String(BALANCE) });
        yield* sql.update(db, tx, ACCOUNTS, from, add(-amount));
      }
      yield pause(random);
      yield* sql.update(db, tx, ACCOUNTS, to, add(amount));
    },
  },
  putEvent: { run: (session) => put(session, EVENTS, keyOf(session), value(session)) },
  removeEvent: {
    *run(session) {
      yield* sql.remove(session.db, session.tx, EVENTS, keyOf(session));
    },
  },
  moveEvent: {
    *run(session) {
      yield* sql.changeKey(session.db, session.tx, EVENTS, keyOf(session), keyOf(session));
    },
  },
  truncateEvents: { run: ({ db, tx }) => sql.truncate(db, tx, EVENTS) },
  bulk: {
    *run(session) {
      const pad = padding(BULK.bytes);
      for (let n = 1; n <= BULK.rows; n++) yield* put(session, ITEMS, `bulk${n}`, { value: session.fresh() + pad });
    },
  },
  huge: {
    run: (session) =>
      put(session, session.random.pick([ITEMS, EVENTS]), keyOf(session), {
        value: session.fresh() + padding(HUGE_BYTES),
      }),
  },
} as const satisfies Readonly<Record<string, Operation>>;

export type OperationName = keyof typeof OPERATIONS;

/** What goes together: a history has a few of these, so that its operations meet. */
export const THEMES = {
  items: ["put", "add", "remove", "reinsert", "touchTwice", "changeKey", "truncate", "snapshot", "poison"],
  users: ["putUser", "callUser", "removeUser", "renameUser", "swapEmails", "snapshot"],
  families: [
    "putParent",
    "codeParent",
    "removeParent",
    "putChild",
    "putLeaf",
    "putNote",
    "removeChild",
    "family",
    "removeFamily",
  ],
  events: ["putEvent", "removeEvent", "moveEvent", "truncateEvents"],
  transfers: ["transfer"],
  /** Costs a hundred times as much as the others. */
  large: ["bulk", "huge", "remove"],
} as const satisfies Readonly<Record<string, readonly OperationName[]>>;
