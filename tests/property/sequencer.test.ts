import { expect, test } from "bun:test";
import fc from "fast-check";
import { ResumePoint } from "../../src/consume/resume_point.ts";
import { Sequencer } from "../../src/consume/sequencer.ts";
import { RUNS } from "./runs.ts";

/** Messages 1 … count lie in a log in some order, some of them several times. */
const log = fc.integer({ min: 1, max: 12 }).chain((count) => {
  const numbers = Array.from({ length: count }, (_, n) => n + 1);
  return fc
    .tuple(
      fc.shuffledSubarray(numbers, { minLength: count, maxLength: count }),
      fc.array(fc.integer({ min: 1, max: count }), { maxLength: 8 }),
      fc.array(fc.nat(), { maxLength: 8 }),
    )
    .map(([order, duplicates, places]) => {
      const messages = [...order];
      for (const [n, sequence] of duplicates.entries())
        messages.splice((places[n] ?? 0) % (messages.length + 1), 0, sequence);
      return { count, messages };
    });
});

const PLENTY = 1_000_000;

test("In whatever order and however often messages come, each passes once, in sequence", () => {
  fc.assert(
    fc.property(log, fc.nat(5), ({ count, messages }, applied) => {
      const sequencer = new Sequencer<number>(applied > 0 ? { epoch: 1, sequence: applied } : null, PLENTY);
      const passed: number[] = [];
      const offered = new Set<number>();
      let seen = 0;
      for (const sequence of messages) {
        const known = sequence <= applied || offered.has(sequence);
        offered.add(sequence);
        const verdict = sequencer.offer({ epoch: 1, sequence }, sequence, 1);
        if (verdict.kind === "pass") passed.push(...verdict.items);
        if (verdict.kind === "held") expect(verdict.missing).toBe(applied + passed.length + 1);
        if (known) expect(verdict.kind).toBe("duplicate");
        else expect(["pass", "held"]).toContain(verdict.kind);
        seen = Math.max(seen, sequence);
        const next = applied + passed.length + 1;
        expect(sequencer.missing).toBe(seen > next ? next : null);
      }
      const expected = Array.from({ length: Math.max(0, count - applied) }, (_, n) => applied + n + 1);
      expect(passed).toEqual(expected);
    }),
    RUNS,
  );
});

test("A hole holds back everything behind it", () => {
  fc.assert(
    fc.property(log, fc.nat(), ({ count, messages }, place) => {
      const missing = (place % count) + 1;
      const sequencer = new Sequencer<number>(null, PLENTY);
      const passed = messages
        .filter((sequence) => sequence !== missing)
        .flatMap((sequence) => {
          const verdict = sequencer.offer({ epoch: 1, sequence }, sequence, 1);
          return verdict.kind === "pass" ? [...verdict.items] : [];
        });
      expect(passed).toEqual(Array.from({ length: missing - 1 }, (_, n) => n + 1));
      expect(sequencer.missing).toBe(missing < count ? missing : null);
    }),
    RUNS,
  );
});

test("What is kept beyond a hole is bounded in bytes, and nothing of it is lost silently", () => {
  fc.assert(
    fc.property(log, fc.integer({ min: 1, max: 40 }), ({ messages }, capacity) => {
      const sequencer = new Sequencer<number>(null, capacity);
      let kept = 0;
      for (const sequence of messages) {
        const verdict = sequencer.offer({ epoch: 1, sequence }, sequence, 10);
        if (verdict.kind === "held") kept++;
        if (verdict.kind === "pass") kept -= verdict.items.length - 1;
        // One is always kept, however large.
        expect(kept).toBeLessThanOrEqual(Math.max(1, Math.floor(capacity / 10)));
        if (verdict.kind === "overflow") return;
      }
    }),
    RUNS,
  );
});

test("A lower epoch is stale, a higher one is refused", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }), fc.nat(9), (known, found, sequence) => {
      const verdict = new Sequencer<number>({ epoch: known, sequence: 3 }, PLENTY).offer(
        { epoch: found, sequence },
        1,
        1,
      );
      if (found < known) expect(verdict.kind).toBe("duplicate");
      if (found > known) expect(verdict).toEqual({ kind: "epoch", found, expected: known });
    }),
    RUNS,
  );
});

test("I5: wherever a reader dies, reading on from the position it recorded brings all that is not applied", () => {
  fc.assert(
    fc.property(log, fc.nat(), ({ count, messages }, dies) => {
      const read = (from: number, applied: number, mostCommits: number) => {
        const sequencer = new Sequencer<{ sequence: number }>(
          applied > 0 ? { epoch: 1, sequence: applied } : null,
          PLENTY,
        );
        const resume = new ResumePoint();
        let ledger = { sequence: applied, offset: from };
        let commits = 0;
        for (let offset = from; offset < messages.length; offset++) {
          const sequence = messages[offset] ?? 0;
          const delivery = { next: { identity: "log", offset: String(offset + 1) } };
          const verdict = sequencer.offer({ epoch: 1, sequence }, { sequence }, 1);
          if (verdict.kind === "held") resume.keep({ identity: "log", offset: String(offset) }, delivery);
          if (verdict.kind !== "pass") continue;
          for (const [n, item] of verdict.items.entries()) {
            const all = n === verdict.items.length - 1 && sequencer.missing === null;
            const position = resume.after(delivery, all);
            if (commits++ === mostCommits) return ledger;
            ledger = { sequence: item.sequence, offset: Number(position.offset) };
          }
        }
        return ledger;
      };
      const first = read(0, 0, dies % (count + 1));
      expect(read(first.offset, first.sequence, PLENTY).sequence).toBe(count);
    }),
    RUNS,
  );
});
