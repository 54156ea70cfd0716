import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Sequencer } from "../../../src/consume/sequencer.ts";

const offer = (sequencer: Sequencer<number>, sequence: number, epoch = 1, bytes = 1) =>
  sequencer.offer({ epoch, sequence }, sequence, bytes);

describe("Sequencer", () => {
  test("passes each number once and in order, for every order of arrival and any duplicates", () => {
    const arrivals = fc
      .integer({ min: 1, max: 40 })
      .chain((count) => {
        const numbers = Array.from({ length: count }, (_, n) => n + 1);
        return fc.tuple(
          fc.constant(count),
          fc.shuffledSubarray([...numbers, ...numbers], { minLength: 0 }),
          fc.constant(numbers),
        );
      })
      .map(([count, extra, numbers]) => ({ count, order: [...extra, ...numbers, ...extra] }));
    fc.assert(
      fc.property(arrivals, ({ count, order }) => {
        const sequencer = new Sequencer<number>(null, 1_000);
        const passed = order.flatMap((sequence) => {
          const verdict = offer(sequencer, sequence);
          return verdict.kind === "pass" ? [...verdict.items] : [];
        });
        expect(passed).toEqual(Array.from({ length: count }, (_, n) => n + 1));
        expect(sequencer.missing).toBeNull();
      }),
      { numRuns: 2_000 },
    );
  });

  test("takes what the ledger has for a duplicate", () => {
    const sequencer = new Sequencer<number>({ epoch: 1, sequence: 10 }, 1_000);
    expect(offer(sequencer, 10).kind).toBe("duplicate");
    expect(offer(sequencer, 11).kind).toBe("pass");
  });

  test("I5: keeps what is beyond a hole and names the missing number", () => {
    const sequencer = new Sequencer<number>({ epoch: 1, sequence: 10 }, 1_000);
    expect(offer(sequencer, 13)).toEqual({ kind: "held", missing: 11 });
    expect(sequencer.missing).toBe(11);
  });

  test("I11: keeps a bounded number of bytes beyond a hole", () => {
    const sequencer = new Sequencer<number>({ epoch: 1, sequence: 0 }, 100);
    expect(offer(sequencer, 2, 1, 80).kind).toBe("held");
    expect(offer(sequencer, 3, 1, 80)).toEqual({ kind: "overflow", missing: 1 });
  });

  test("a stale epoch is a duplicate, a new one stops", () => {
    const sequencer = new Sequencer<number>({ epoch: 2, sequence: 5 }, 1_000);
    expect(offer(sequencer, 6, 1).kind).toBe("duplicate");
    expect(offer(sequencer, 6, 3)).toEqual({ kind: "epoch", found: 3, expected: 2 });
  });
});
