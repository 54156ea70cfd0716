/** Conflicts of law 3, made at random, and what src/core says becomes of them. Each case has keys and values of its own. */
import fc from "fast-check";
import {
  arbitrate,
  type Contender,
  deletionAbove,
  type Here,
  restampAbove,
  stampAbove,
} from "../../src/core/arbitration.ts";
import type { Operation } from "../../src/core/chunk.ts";
import { type KeyState, mergeKey } from "../../src/core/merge.ts";
import type { ConflictPolicy, Stamp, StampedRow } from "../../src/core/stamp.ts";
import { type Chunk, chunk } from "./target_fixture.ts";

/** Few values, so that ties are common; those in the future are above PostgreSQL's clock. */
const PAST = 1_767_225_600_000_000n;
export const FUTURE = BigInt(Date.now() + 30 * 60_000) * 1_000n;
export const CONTOUR = "passive";

const any: fc.Arbitrary<Stamp> = fc.record({
  version: fc.bigInt(1n, 4n),
  updatedAt: fc.constantFrom(PAST, PAST + 1n, PAST + 2_000_000n, FUTURE, FUTURE + 1n),
  updatedBy: fc.constantFrom("a", "b", CONTOUR),
});
/** Two in the middle come often: then the key decides. */
const stamp = fc.oneof(
  { arbitrary: any, weight: 3 },
  {
    arbitrary: fc.constantFrom<Stamp>(
      { version: 2n, updatedAt: PAST + 1n, updatedBy: "b" },
      { version: 3n, updatedAt: FUTURE, updatedBy: "a" },
    ),
    weight: 2,
  },
);
/** As keys sort by bytes, in a row's text, and not by a locale or by UTF-16 units. */
const suffix = fc.constantFrom("a", "B", "b", "a b", 'a"', "é", "\uffff", "🦔");

export const CHILDREN = ["kept", "cascaded", "detached"] as const;
type ChildTable = (typeof CHILDREN)[number];

interface Child {
  readonly table: ChildTable;
  readonly stamp: Stamp;
  readonly tombstone: Stamp | null;
}

/** A row as the case wants it here; what is below its tombstone is not. */
interface Place {
  readonly suffix: string;
  readonly row: Stamp | null;
  readonly tombstone: Stamp | null;
  readonly children: readonly Child[];
}

export interface Case {
  readonly operation: Extract<Operation, "INSERT" | "UPDATE" | "SNAPSHOT" | "DELETE">;
  readonly stamp: Stamp;
  /** The key that comes is that of the first place. */
  readonly places: readonly Place[];
  /** Of which place's values it has the e-mail, and the phone; its own, of the first place or of none. */
  readonly email: number;
  readonly phone: number;
}

/** A tombstone below the row by one policy, with one component above it; by the other policy the row is buried. */
const aslant = ({ version, updatedAt }: Stamp) =>
  fc.constantFrom<Stamp>(
    { version: version + 3n, updatedAt: updatedAt - 1n, updatedBy: "b" },
    { version: version - 1n, updatedAt: updatedAt + 3n, updatedBy: "b" },
  );

const placeOf: fc.Arbitrary<Place> = fc
  .record({
    suffix,
    row: fc.option(stamp, { freq: 5 }),
    children: fc.array(
      fc.record({ table: fc.constantFrom(...CHILDREN), stamp, tombstone: fc.option(stamp, { freq: 2 }) }),
      { maxLength: 3 },
    ),
  })
  .chain((place) =>
    fc
      .option(place.row ? fc.oneof(stamp, aslant(place.row)) : stamp, { freq: 2 })
      .map((tombstone) => ({ ...place, tombstone })),
  );

export const caseOf: fc.Arbitrary<Case> = fc.record({
  operation: fc.constantFrom("INSERT", "UPDATE", "SNAPSHOT", "INSERT", "DELETE"),
  stamp,
  places: fc.uniqueArray(placeOf, { selector: (place) => place.suffix, minLength: 1, maxLength: 4 }),
  email: fc.nat(4),
  phone: fc.nat(4),
});

/** Tables of the conflicts: two unique columns, and children by each kind of foreign key. */
export function ddlOf(policy: ConflictPolicy): string {
  const child = (name: ChildTable, onDelete: string) =>
    `CREATE TABLE ${name} (id text PRIMARY KEY, owner text REFERENCES users ${onDelete});`;
  const options = JSON.stringify({ conflict: policy });
  return `CREATE TABLE users (id text PRIMARY KEY, email text UNIQUE, phone text UNIQUE);
${child("kept", "")}${child("cascaded", "ON DELETE CASCADE")}${child("detached", "ON DELETE SET NULL")}
${["users", ...CHILDREN].map((table) => `SELECT public.setup_table_for_replication('${table}', '${options}');`).join("\n")}`;
}

/**
 * A floor that every row stands above by the policy, though one component of it is greater: what is captured over such a
 * row must still win.
 */
export function floorOf(policy: ConflictPolicy): Stamp {
  return policy === "version"
    ? { version: 0n, updatedAt: FUTURE + 5n, updatedBy: "a" }
    : { version: 9n, updatedAt: PAST - 1n, updatedBy: "a" };
}

const keyOf = (n: number, { suffix: end }: Pick<Place, "suffix">) => `${n} ${end}`;
const childKeyOf = (n: number, place: number, child: number) => `${n}-${place}-${child}`;

/** JSON members of a stamp. */
function members({ version, updatedAt, updatedBy }: Stamp): object {
  const seconds = new Date(Number(updatedAt / 1_000n)).toISOString().slice(0, 19);
  const microseconds = String(updatedAt % 1_000_000n).padStart(6, "0");
  return { version: Number(version), updated_at: `${seconds}.${microseconds}+00:00`, updated_by: updatedBy };
}

/** What a TRUNCATE of this stamp carries. */
export function floorLine(floor: Stamp): string {
  return JSON.stringify(members(floor));
}

const line = (values: object, of: Stamp) => JSON.stringify({ ...values, ...members(of) });

interface UserRow extends StampedRow {
  readonly email: string;
  readonly phone: string;
}

function userRow(key: string, email: string, phone: string, of: Stamp): UserRow {
  const quoted = /^\S*$/.test(key) && !key.includes('"') ? key : `"${key.replaceAll('"', '""')}"`;
  return { stamp: of, email, phone, text: `(${email},${quoted},${phone})` };
}

/** What is here before: rows below their tombstones are not, nor are children of rows that are not. */
function before(n: number, one: Case, policy: ConflictPolicy) {
  const floor = floorOf(policy);
  return one.places.map((place, at) => {
    let state: KeyState<UserRow> = { row: null, tombstone: place.tombstone };
    const key = keyOf(n, place);
    if (place.row) {
      const row = userRow(key, `e${n}-${at}`, `p${n}-${at}`, place.row);
      state = mergeKey(state, { kind: "row", row }, floor, policy).state;
    }
    const children = place.children.flatMap((child, c) => {
      const row = { stamp: child.stamp, text: "" };
      const there = mergeKey({ row: null, tombstone: child.tombstone }, { kind: "row", row }, null, policy).state;
      return state.row && there.row ? [{ ...child, key: childKeyOf(n, at, c) }] : [];
    });
    return { ...place, ...state, key, at, children };
  });
}

/** Chunks that bring all cases' rows and tombstones here, to be applied one after the other. */
export function seeds(cases: readonly Case[], policy: ConflictPolicy): Chunk[] {
  const lines = new Map<string, string[]>();
  const put = (where: string, text: string) => lines.set(where, [...(lines.get(where) ?? []), text]);
  for (const [n, one] of cases.entries()) {
    for (const [at, place] of one.places.entries()) {
      if (place.tombstone) put("users DELETE", line({ id: keyOf(n, place) }, place.tombstone));
      for (const [c, child] of place.children.entries())
        if (child.tombstone) put(`${child.table} DELETE`, line({ id: childKeyOf(n, at, c) }, child.tombstone));
    }
    for (const { key, row, children } of before(n, one, policy)) {
      if (row) put("users SNAPSHOT", line({ id: key, email: row.email, phone: row.phone }, row.stamp));
      for (const child of children) put(`${child.table} SNAPSHOT`, line({ id: child.key, owner: key }, child.stamp));
    }
  }
  const order = ["DELETE", "SNAPSHOT"].flatMap((operation) =>
    ["users", ...CHILDREN].map((table) => [table, operation as Operation] as const),
  );
  return order.flatMap(([table, operation]) => {
    const some = lines.get(`${table} ${operation}`);
    return some ? [chunk(table, operation, some)] : [];
  });
}

function comes(n: number, one: Case) {
  const [first] = one.places;
  if (!first) throw new RangeError("A case without a place");
  const key = keyOf(n, first);
  // Beyond the places: a value that nobody has.
  return { key, row: userRow(key, `e${n}-${one.email}`, `p${n}-${one.phone}`, one.stamp) };
}

/** The change that comes. */
export function incoming(n: number, one: Case): Chunk {
  const { key, row } = comes(n, one);
  const values = one.operation === "DELETE" ? { id: key } : { id: key, email: row.email, phone: row.phone };
  return chunk("users", one.operation, [line(values, one.stamp)]);
}

export interface Result {
  readonly outcome: "applied" | "beaten" | "overridden";
  /** `table key values stamp`, sorted; of a stamp that took PostgreSQL's clock, "clock" for its time. */
  readonly rows: readonly string[];
  readonly tombstones: readonly string[];
  /** `operation table key stamp`, sorted. */
  readonly captured: readonly string[];
}

export function stampText({ version, updatedAt, updatedBy }: Stamp, isClock: (updatedAt: bigint) => boolean): string {
  return `${version} ${isClock(updatedAt) ? "clock" : updatedAt} ${updatedBy}`;
}

/** What the rules say becomes of a case. @param clock any time between the past and the future of the cases */
export function expected(n: number, one: Case, policy: ConflictPolicy, clock: bigint): Result {
  const here: Here = { contour: CONTOUR, clock };
  const text = (of: Stamp) => stampText(of, (at) => at === clock);
  const places = before(n, one, policy).map((place) => ({ ...place, children: [...place.children] }));
  const [own] = places;
  if (!own) throw new RangeError("A case without a place");
  const { key, row } = comes(n, one);
  const captured: string[] = [];
  const rows: string[] = [];
  const tombstones = new Map<string, Stamp>();
  for (const [at, place] of one.places.entries()) {
    if (place.tombstone) tombstones.set(`users ${keyOf(n, place)}`, place.tombstone);
    for (const [c, child] of place.children.entries())
      if (child.tombstone) tombstones.set(`${child.table} ${childKeyOf(n, at, c)}`, child.tombstone);
  }
  const remove = (table: string, gone: string, by: Stamp) => {
    tombstones.set(`${table} ${gone}`, by);
    captured.push(`DELETE ${table} ${gone} ${text(by)}`);
  };
  /** What ON DELETE says; where it says nothing the child goes with its parent. */
  const clear = (place: (typeof places)[number]) => {
    for (const { table, key: child, stamp: of, tombstone } of place.children.splice(0)) {
      if (table !== "detached") remove(table, child, deletionAbove(of, tombstone, here));
      else {
        const changed = text(stampAbove([of], here));
        captured.push(`UPDATE ${table} ${child} ${changed}`);
        rows.push(`${table} ${child} null ${changed}`);
      }
    }
  };
  const contender = (place: (typeof places)[number], of: StampedRow): Contender => ({
    stamp: of.stamp,
    table: "users",
    key: of.text.replace(/^\([^,]*,(.*),[^,]*\)$/, "($1)"),
    replaced: place.row === of ? null : (place.row?.stamp ?? null),
    tombstone: place.tombstone,
  });
  let outcome: Result["outcome"];
  const floor = floorOf(policy);
  if (one.operation === "DELETE") {
    const merged = mergeKey(own, { kind: "deletion", stamp: one.stamp }, floor, policy);
    outcome = merged.outcome;
    const above = own.row && !merged.state.row && restampAbove(own.row.stamp, one.stamp, policy, here);
    if (own.row && above && own.children.some(({ table }) => table === "kept")) {
      own.row = { ...own.row, stamp: above };
      captured.push(`UPDATE users ${key} ${text(above)}`);
      outcome = "overridden";
    } else {
      if (above) clear(own);
      Object.assign(own, merged.state);
      if (merged.state.tombstone) tombstones.set(`users ${key}`, merged.state.tombstone);
    }
  } else {
    const merged = mergeKey(own, { kind: "row", row }, floor, policy);
    outcome = merged.outcome;
    const holders = places.filter(
      (place) => place !== own && place.row && (place.row.email === row.email || place.row.phone === row.phone),
    );
    if (outcome === "applied") {
      const contenders = holders.flatMap((place) => (place.row ? [contender(place, place.row)] : []));
      const verdict = arbitrate(contenders, contender(own, row), policy, here);
      const losers = verdict.removed === "incoming" ? [own] : holders;
      if (verdict.removed === "incoming") outcome = "overridden";
      else own.row = row;
      for (const [at, loser] of losers.entries()) {
        const by = verdict.stamps[at];
        if (!by) throw new RangeError("A verdict without a stamp");
        clear(loser);
        remove("users", loser.key, by);
        loser.row = null;
      }
    }
  }
  for (const place of places) {
    if (place.row) rows.push(`users ${place.key} ${place.row.email} ${place.row.phone} ${text(place.row.stamp)}`);
    for (const child of place.children) rows.push(`${child.table} ${child.key} ${place.key} ${text(child.stamp)}`);
  }
  return {
    outcome,
    rows: rows.sort(),
    tombstones: [...tombstones].map(([of, at]) => `${of} ${text(at)}`).sort(),
    captured: captured.sort(),
  };
}
