import { expect, test } from "bun:test";
import { ConfirmedOrder, type SendJob } from "../../../../adapters/nats/publish_order.ts";
import { ReplicatorError } from "../../../../src/core/errors.ts";
import { HEADER } from "../../../../src/core/message.ts";

/** A job whose confirmation named a stream sequence; negative: confirmed as a duplicate; null: failed. */
function job(number: number, stored: number | null, subject = "s"): SendJob {
  const headers = { [HEADER.epoch]: "1", [HEADER.sequence]: String(number) };
  const failure = new ReplicatorError({
    code: "broker.send_timeout",
    message: "No answer",
    retry: "backoff",
    fault: "environment",
  });
  return {
    subject,
    message: { id: String(number), partition: 0, key: null, body: new Uint8Array(0), headers },
    id: String(number),
    result:
      stored === null
        ? { ok: false, error: failure }
        : { ok: true, stream: "t", sequence: Math.abs(stored), duplicate: stored < 0 },
  };
}
const none = async () => new Set<number>();
const numbers = (jobs: readonly SendJob[]) => jobs.map(({ message }) => Number(message.id));

test("new messages need no look", () => {
  expect(new ConfirmedOrder().needsLook([job(1, 10), job(2, 11), job(3, null)])).toBe(false);
  expect(new ConfirmedOrder().needsLook([job(1, 10), job(2, -9)])).toBe(true);
  expect(new ConfirmedOrder().needsLook([job(1, 10), job(2, 9)])).toBe(true);
});

test("duplicates that stand in order are left alone", async () => {
  const order = new ConfirmedOrder();
  const jobs = [job(1, -10), job(2, -11), job(3, 12)];
  expect(await order.misplaced(jobs, none)).toEqual([]);
  order.remember(jobs);
  // A whole batch once more, as a new owner of the channel does.
  expect(await order.misplaced([job(1, -10), job(2, -11), job(3, -12)], none)).toEqual([]);
});

test("from the first duplicate in front of its predecessor on, all are sent again", async () => {
  expect(
    numbers(await new ConfirmedOrder().misplaced([job(1, -4), job(2, 9), job(3, -6), job(4, -7), job(5, 10)], none)),
  ).toEqual([3, 4, 5]);
});

test("the predecessor may have been sent in an earlier call", async () => {
  const order = new ConfirmedOrder();
  order.remember([job(5, 20)]);
  expect(numbers(await order.misplaced([job(6, -18), job(7, -19)], none))).toEqual([6, 7]);
  expect(numbers(await order.misplaced([job(8, -18)], none))).toEqual([]);
});

test("from the first duplicate that is not stored on, all of its subject are sent again, and no other", async () => {
  const jobs = [job(1, -4), job(1, -5, "other"), job(2, -6), job(2, 20, "other"), job(3, 21)];
  expect(numbers(await new ConfirmedOrder().misplaced(jobs, async () => new Set([6])))).toEqual([2, 3]);
});
