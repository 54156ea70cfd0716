import { expect, test } from "bun:test";
import fc from "fast-check";
import { Acks } from "../../src/consume/acks.ts";
import { RUNS } from "./runs.ts";

/** Deliveries that note when they are acknowledged. */
function claim() {
  const acked: number[] = [];
  const made = new Map<number, { ack(): void }>();
  const delivery = (n: number) => {
    const known = made.get(n) ?? { ack: () => void acked.push(n) };
    made.set(n, known);
    return known;
  };
  return { acked, delivery };
}

test("I4: a commit of one source does not acknowledge what another has not committed", () => {
  const { acked, delivery } = claim();
  const acks = new Acks();
  acks.taken("a", delivery(1), 1);
  acks.taken("b", delivery(2), 1);
  acks.taken("a", delivery(3), 2);
  acks.committed("b", 1);
  expect(acked).toEqual([]);
  acks.committed("a", 2);
  expect(acked).toEqual([3]);
});

test("what was applied before, or is not for us, is acknowledged once all before it is", () => {
  const { acked, delivery } = claim();
  const acks = new Acks();
  acks.passed(delivery(1));
  acks.taken("a", delivery(2), 1);
  acks.passed(delivery(3));
  acks.passed(delivery(4));
  expect(acked).toEqual([1]);
  acks.committed("a", 1);
  expect(acked).toEqual([1, 4]);
});

test("I4: behind a source that stopped nothing is acknowledged", () => {
  const { acked, delivery } = claim();
  const acks = new Acks();
  acks.taken("a", delivery(1), 1);
  acks.stop();
  acks.taken("b", delivery(2), 1);
  acks.committed("b", 1);
  acks.passed(delivery(3));
  expect(acked).toEqual([]);
});

test("I4: what came before its turn is acknowledged after its own commit, not with the message it waited for", () => {
  const { acked, delivery } = claim();
  const acks = new Acks();
  acks.taken("a", delivery(1), 2);
  acks.taken("a", delivery(2), 3);
  acks.taken("a", delivery(3), 1);
  acks.committed("a", 1);
  expect(acked).toEqual([]);
  acks.committed("a", 2);
  expect(acked).toEqual([1]);
  acks.committed("a", 3);
  expect(acked).toEqual([1, 3]);
});

test("I4: for every interleaving an acknowledgement covers only what is durable, and in the end everything", () => {
  const arrivals = fc.array(fc.constantFrom("a", "b", null), { maxLength: 60 });
  const script = arrivals.chain((sources) =>
    // Each source's messages come in any order: the place of each in its sequence, and when commits happen.
    fc.record({
      sources: fc.constant(sources),
      order: fc.array(fc.nat(), { minLength: sources.length, maxLength: sources.length }),
      commits: fc.array(fc.record({ source: fc.constantFrom("a", "b"), count: fc.nat(3) }), { maxLength: 80 }),
    }),
  );
  fc.assert(
    fc.property(script, ({ sources, order, commits }) => {
      const { acked, delivery } = claim();
      const acks = new Acks();
      const sequences = sequencesOf(sources, order);
      const arrived = new Map([["a", new Set<number>()] as const, ["b", new Set<number>()] as const]);
      const committed = new Map([["a", 0] as const, ["b", 0] as const]);
      const isDurable = (n: number) => {
        const source = sources[n];
        return !source || (sequences[n] ?? 0) <= (committed.get(source) ?? 0);
      };
      const covered = () => {
        for (let n = 0; n <= (acked.at(-1) ?? -1); n++) expect(isDurable(n)).toBe(true);
      };
      const commit = (source: "a" | "b", count: number) => {
        const last = committed.get(source) ?? 0;
        let next = last;
        while (next < last + count && arrived.get(source)?.has(next + 1)) next++;
        committed.set(source, next);
        acks.committed(source, next);
        covered();
      };
      for (const [n, source] of sources.entries()) {
        if (source === null) acks.passed(delivery(n));
        else {
          arrived.get(source)?.add(sequences[n] ?? 0);
          acks.taken(source, delivery(n), sequences[n] ?? 0);
        }
        covered();
        const turn = commits[n];
        if (turn) commit(turn.source, turn.count);
      }
      for (const source of ["a", "b"] as const) commit(source, sources.length);
      expect(acked.at(-1) ?? -1).toBe(sources.length - 1);
      expect(acked).toEqual([...acked].sort((x, y) => x - y));
    }),
    RUNS,
  );
});

/** Numbers each source's arrivals from 1, in an order of their own. */
function sequencesOf(sources: readonly (string | null)[], order: readonly number[]): number[] {
  const sequences = sources.map(() => 0);
  for (const source of ["a", "b"]) {
    const places = [...sources.keys()].filter((n) => sources[n] === source);
    places.sort((x, y) => (order[x] ?? 0) - (order[y] ?? 0) || x - y);
    for (const [n, place] of places.entries()) sequences[place] = n + 1;
  }
  return sequences;
}
