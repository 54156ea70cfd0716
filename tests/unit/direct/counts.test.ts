import { expect, test } from "bun:test";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { combined } from "../../../src/direct/counts.ts";

interface Counts {
  readonly unpublished: number;
  readonly parked: number;
}

const away = new ReplicatorError({
  code: "database.unreachable",
  message: "away",
  retry: "backoff",
  fault: "environment",
});
const clock = { sleep: async () => new Promise<void>((resolve) => setImmediate(resolve)) };

test("a database that is away hides nothing of the other, and keeps what it said last", async () => {
  let isAway = false;
  let unpublished = 1;
  const counts = combined<Counts>(
    [async () => ({ unpublished: unpublished++ }), async () => (isAway ? Promise.reject(away) : { parked: 7 })],
    clock,
  );
  expect(await counts()).toEqual({ unpublished: 1, parked: 7 });
  isAway = true;
  expect(await counts()).toEqual({ unpublished: 2, parked: 7 });
});

test("one that does not answer is not waited for, and not asked again meanwhile", async () => {
  let asked = 0;
  const silent = () => {
    asked++;
    return new Promise<Partial<Counts>>(() => {});
  };
  const counts = combined<Counts>([async () => ({ unpublished: 3 }), silent], clock);
  for (let n = 0; n < 3; n++) expect(await counts()).toEqual({ unpublished: 3 });
  expect(asked).toBe(1);
});

test("a mistake of ours is not swallowed", async () => {
  const counts = combined<Counts>([() => Promise.reject(new TypeError("mistake"))], clock);
  await expect(counts()).rejects.toThrow("mistake");
});
