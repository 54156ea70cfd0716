/**
 * Mutations of the rules, each of which some check must catch. To add one: a line here, and where it replaces something
 * that cannot be replaced yet, a field of Rules or Planted. `caughtBy`: the checks that may be the first to see it.
 */
import type { Cut, SourceStore } from "../../../src/core/source_store.ts";
import { compareStamps } from "../../../src/core/stamp.ts";
import type { Chaos, Narrowing } from "../profile.ts";
import { type OperationName, THEMES } from "../workload/operations.ts";
import type { Planted } from "./planted.ts";

export interface Fault extends Planted {
  readonly name: string;
  /** What is wrong with it, and the page that says so. */
  readonly what: string;
  readonly caughtBy: readonly string[];
}

const CALM: Chaos = { kills: 0, stops: 0, freezes: 0, brokerOutages: 0, databaseOutages: 0, clockSteps: 0 };

const only = (...names: readonly OperationName[]) => ({
  operations: names.map((name) => [1, name] as const),
  oneWriter: false,
});

/** Many hands that take their time, and keys enough that a race stays the last that happened to one. */
const contended = (...names: readonly OperationName[]): Narrowing => ({
  ...only(...names),
  contours: ["a", "b", "c"],
  sessions: 4,
  transactions: 4,
  lingering: 0.5,
  pauseMs: 200,
  keys: 10,
  lagMs: 60,
  repeatableRead: 0,
  chaos: CALM,
});

/** Processes that come and go while the broker is hard to reach: cuts are sent again, by others. */
const deposed: Narrowing = {
  hosts: 2,
  chaos: { ...CALM, kills: 4, freezes: 2 },
  broker: { late: 0.1, refused: 0.1, lost: 0.1, dies: 0.05, duplicated: 0, unclaimed: 0 },
};

export const FAULTS: readonly Fault[] = [
  {
    name: "id cursor",
    what: "the queue is read by ids above the last one seen, not between snapshots (I2)",
    idCursor: true,
    caughtBy: ["accounted", "immutable", "whole", "source state", "sum"],
  },
  {
    name: "cursor before sending",
    what: "a cut counts as confirmed before the broker has confirmed it (I3)",
    source: (port, server) => wrap(port, { onRead: (cut, channel) => server.moveCursor(channel, cut) }),
    caughtBy: ["accounted", "immutable", "heals"],
  },
  {
    name: "framing by the owner",
    what: "frames are split by a setting of the process, not by the cut's (I13)",
    source: (port, _, { name }) =>
      wrap(port, { cut: (cut) => ({ ...cut, frameBytes: 450 + (Bun.hash.crc32(name) % 2_000) }) }),
    profile: deposed,
    caughtBy: ["immutable"],
  },
  {
    name: "no tombstone",
    what: "an applied DELETE is not remembered (I6)",
    rules: { tombstones: false },
    caughtBy: ["equal", "source state", "heals"],
  },
  {
    name: "no floor",
    what: "an applied TRUNCATE is not remembered (I6)",
    rules: { floors: false },
    profile: only(...THEMES.items),
    caughtBy: ["equal"],
  },
  {
    name: "refusal without override",
    what: "what a constraint refuses is dropped, nothing is captured (law 3)",
    rules: { overrides: false },
    profile: only(...THEMES.users, ...THEMES.families),
    caughtBy: ["equal", "constraints", "heals"],
  },
  {
    name: "<= for <",
    what: "an incoming row of an equal stamp replaces the one that is there (review A5)",
    rules: { replaces: (incoming, current, policy) => compareStamps(incoming.stamp, current.stamp, policy) >= 0 },
    profile: { ...only("put", "snapshot"), oldRows: "different", keys: 5, transactions: 2 },
    caughtBy: ["equal"],
  },
  {
    name: "ack before commit",
    what: "a delivery is acknowledged when it is handed out (I4)",
    acknowledgesEarly: true,
    caughtBy: ["acknowledged"],
  },
  {
    name: "no ledger",
    what: "the position is not kept in the target (I8)",
    rules: { ledger: false },
    caughtBy: ["once", "heals"],
  },
  {
    name: "no fence",
    what: "an apply transaction does not verify the ledger's position and its lease (B4)",
    rules: { fence: false },
    profile: {
      hosts: 2,
      chaos: { kills: 1, stops: 1, freezes: 6, brokerOutages: 0, databaseOutages: 0, clockSteps: 3 },
    },
    caughtBy: ["once"],
  },
  {
    name: "tie broken by arrival",
    what: "of equal versions the one that is there stays (I6)",
    rules: {
      replaces: (incoming, current) => incoming.stamp.version > current.stamp.version,
      deletes: (deletion, row) => deletion.version >= row.version,
    },
    caughtBy: ["equal"],
  },
  {
    name: "coalescing by position",
    what: "of several changes of a key in a group the last is taken (review B1)",
    rules: { greatestRow: (rows) => rows.at(-1) ?? null },
    profile: only("put", "touchTwice"),
    caughtBy: ["equal", "source state"],
  },
  {
    name: "cascade not captured",
    what: "children that apply deletes with their parent are not captured (review A6)",
    rules: { capturesCascades: false },
    profile: only(...THEMES.families),
    caughtBy: ["equal", "constraints", "heals"],
  },
  {
    name: "no sweep",
    what: "what a tombstone beats is not removed in a second statement (review A4)",
    rules: { sweeps: false },
    profile: contended("add", "remove"),
    caughtBy: ["equal"],
  },
  {
    name: "no second look",
    what: "keys of applied deletions are not looked at again (review A4)",
    rules: { looksAgain: false },
    profile: contended("add", "remove"),
    caughtBy: ["equal"],
  },
  {
    name: "stamp before the wait",
    what: "an INSERT is stamped before it waits for the transaction that deletes its key (law 1)",
    stampsBeforeWaiting: true,
    profile: contended("add", "remove"),
    caughtBy: ["equal"],
  },
  {
    name: "revival before arbitration",
    what: "a parent is lifted above its deletion before its unique value is settled: the contours quarrel for ever (law 3)",
    rules: { settlesBeforeReviving: false },
    profile: {
      ...only("codeParent", "putChild", "removeFamily"),
      contours: ["a", "b"],
      sessions: 2,
      transactions: 8,
      keys: 3,
      lagMs: 600,
    },
    caughtBy: ["quiet"],
  },
];

interface Replaced {
  onRead?(cut: Cut, channel: string): void;
  cut?(cut: Cut): Cut;
}

function wrap(port: SourceStore, { onRead, cut = (same) => same }: Replaced): SourceStore {
  const read = (one: Cut, channel: string) => onRead?.(one, channel);
  return {
    open: (signal) => port.open(signal),
    setLayout: (channels) => port.setLayout(channels),
    departedChannels: () => port.departedChannels(),
    partitions: (one, channel) => port.partitions(one, channel),
    lease: (kind, name, owner, ttlMs) => port.lease(kind, name, owner, ttlMs),
    releaseLease: (kind, name, lease) => port.releaseLease(kind, name, lease),
    takeCut: (lease, frameBytes) => port.takeCut(lease, frameBytes),
    channelState: (channel, partitions) => port.channelState(channel, partitions),
    cutsAfter: async (cutNo, limit) => (await port.cutsAfter(cutNo, limit)).map(cut),
    async *readChunks(one, channel, signal) {
      for await (const chunks of port.readChunks(one, channel, signal)) {
        read(one, channel);
        yield chunks;
      }
    },
    async *readEvents(one, channel, signal) {
      for await (const rows of port.readEvents(one, channel, signal)) {
        read(one, channel);
        yield rows;
      }
    },
    confirm: (channel, lease, one, sequences) => port.confirm(channel, lease, one, sequences),
    release: (retentionMs) => port.release(retentionMs),
    snapshots: () => port.snapshots(),
    backlog: () => port.backlog(),
    ping: (signal) => port.ping(signal),
    close: () => port.close(),
  };
}

/** @throws RangeError that lists the names */
export function faultNamed(name: string): Fault {
  const fault = FAULTS.find((one) => one.name === name);
  if (!fault) throw new RangeError(`No fault is called "${name}": ${FAULTS.map((one) => one.name).join(", ")}`);
  return fault;
}
