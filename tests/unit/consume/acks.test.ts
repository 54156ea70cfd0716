import { expect, test } from "bun:test";
import fc from "fast-check";
import { Acks } from "../../../src/consume/acks.ts";

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
  acks.taken("a", delivery(1));
  acks.taken("b", delivery(2));
  acks.taken("a", delivery(3));
  acks.committed("b", delivery(2));
  expect(acked).toEqual([]);
  acks.committed("a", delivery(3));
  expect(acked).toEqual([3]);
});

test("what was applied before, or is not for us, is acknowledged once all before it is", () => {
  const { acked, delivery } = claim();
  const acks = new Acks();
  acks.passed(delivery(1));
  acks.taken("a", delivery(2));
  acks.passed(delivery(3));
  acks.passed(delivery(4));
  expect(acked).toEqual([1]);
  acks.committed("a", delivery(2));
  expect(acked).toEqual([1, 4]);
});

test("I4: behind a source that stopped nothing is acknowledged", () => {
  const { acked, delivery } = claim();
  const acks = new Acks();
  acks.taken("a", delivery(1));
  acks.stop();
  acks.taken("b", delivery(2));
  acks.committed("b", delivery(2));
  acks.passed(delivery(3));
  expect(acked).toEqual([]);
});

test("I4: for every interleaving an acknowledgement covers only what is durable, and in the end everything", () => {
  const steps = fc.array(fc.record({ source: fc.constantFrom("a", "b", null), commits: fc.constantFrom("a", "b") }), {
    maxLength: 60,
  });
  fc.assert(
    fc.property(steps, (script) => {
      const { acked, delivery } = claim();
      const acks = new Acks();
      const sources: (string | null)[] = [];
      const durable = new Set<number>();
      const commit = (source: string) => {
        const last = sources.lastIndexOf(source);
        if (last < 0 || durable.has(last)) return;
        for (const [n, other] of sources.entries()) if (other === source) durable.add(n);
        acks.committed(source, delivery(last));
      };
      const covered = () => {
        const upTo = acked.at(-1) ?? -1;
        for (let n = 0; n <= upTo; n++) expect(durable.has(n)).toBe(true);
      };
      for (const { source, commits } of script) {
        const n = sources.push(source) - 1;
        if (source === null) {
          durable.add(n);
          acks.passed(delivery(n));
        } else acks.taken(source, delivery(n));
        covered();
        commit(commits);
        covered();
      }
      for (const source of ["a", "b"]) commit(source);
      expect(acked.at(-1) ?? -1).toBe(sources.length - 1);
      expect(acked).toEqual([...acked].sort((x, y) => x - y));
    }),
  );
});
