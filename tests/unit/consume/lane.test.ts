import { expect, test } from "bun:test";
import { batchOf, boundaryOf } from "../../../src/consume/batch.ts";
import { GroupSize } from "../../../src/consume/group_size.ts";
import { Lane } from "../../../src/consume/lane.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { parseEnvelope } from "../../../src/core/message.ts";
import { FakeStore, type FrameOptions, frame, HELD, Journal } from "./support.ts";

function laneOf(batchSize = 100) {
  const journal = new Journal();
  const store = new FakeStore(journal);
  const key = { source: "a", channel: "changes", partition: 0 };
  const lane = new Lane(
    {
      store,
      key,
      feed: "log",
      lease: HELD,
      clock: systemClock,
      size: new GroupSize(batchSize),
      onCommit: () => undefined,
    },
    null,
  );
  const take = async (options: FrameOptions) => {
    const delivery = frame(journal, options.sequence, options);
    const envelope = parseEnvelope(delivery.headers);
    if (!envelope) throw new Error("a frame of ours");
    const batch = batchOf(envelope, delivery);
    await lane.take({ batch, delivery, boundary: boundaryOf(envelope), bytes: delivery.body.length });
  };
  return { journal, store, lane, take };
}

test("I4: a delivery is acknowledged after the commit that records it, once for all before it", async () => {
  const { journal, lane, take } = laneOf();
  await take({ sequence: 1 });
  await take({ sequence: 2 });
  expect(journal.lines).toEqual([]);
  await lane.settle(false);
  expect(journal.lines).toEqual(["apply a1,a2", "commit a2", "ack a2"]);
});

test("I4: nothing is acknowledged when the commit fails", async () => {
  const { journal, store, lane, take } = laneOf();
  store.fail = (step) => {
    if (step.startsWith("commit")) throw new Error("the target is away");
  };
  await take({ sequence: 1 });
  await expect(lane.settle(false)).rejects.toThrow("away");
  expect(journal.lines.filter((line) => line.startsWith("ack"))).toEqual([]);
  expect(store.positions.size).toBe(0);
});

test("I12: a transaction in parts is not applied before its last part, however long that takes", async () => {
  const { journal, lane, take } = laneOf();
  const part = (n: number, last = false) => ({ transaction: "7", part: n, last });
  await take({ sequence: 1, cutNo: 1, cutEnd: false });
  await take({ sequence: 2, cutNo: 1, cutEnd: false, part: part(1) });
  await lane.settle(true);
  expect(journal.lines).toEqual(["apply a1", "commit a1", "ack a1"]);
  await take({ sequence: 3, cutNo: 1, cutEnd: false, part: part(2) });
  await lane.settle(true);
  expect(journal.lines.length).toBe(3);
  await take({ sequence: 4, cutNo: 1, cutEnd: true, part: part(3, true) });
  await lane.settle(false);
  expect(journal.lines.slice(3)).toEqual(["apply a2,a3,a4", "commit a4", "ack a4"]);
});

test("I12: what is at hand waits for the end of its cut, unless the rest does not come", async () => {
  const { journal, lane, take } = laneOf();
  await take({ sequence: 1, cutNo: 5, cutEnd: true });
  await take({ sequence: 2, cutNo: 6, cutEnd: false });
  await lane.settle(false);
  expect(journal.lines).toEqual(["apply a1", "commit a1", "ack a1"]);
  await lane.settle(true);
  expect(journal.lines.slice(3)).toEqual(["apply a2", "commit a2", "ack a2"]);
});

test("I11 I12: a transaction too large to keep is applied while it arrives, and committed whole", async () => {
  const { journal, lane, take } = laneOf();
  const megabyte = 1_000_000;
  for (let n = 1; n <= 6; n++) {
    await take({
      sequence: n,
      cutNo: 1,
      cutEnd: false,
      part: { transaction: "7", part: n, last: false },
      bytes: megabyte,
    });
    await lane.settle(true);
  }
  expect(lane.streaming).toBe(true);
  expect(journal.lines.some((line) => line.startsWith("apply"))).toBe(true);
  expect(journal.lines.some((line) => line.startsWith("commit") || line.startsWith("ack"))).toBe(false);
  await take({ sequence: 7, cutNo: 1, part: { transaction: "7", part: 7, last: true } });
  expect(journal.lines.slice(-2)).toEqual(["commit a7", "ack a7"]);
  expect(lane.busy).toBe(false);
});

test("I5: a group that a concurrent transaction undoes is tried again at once, with less; the rest follows", async () => {
  const { journal, store, lane, take } = laneOf();
  for (let sequence = 1; sequence <= 8; sequence++) await take({ sequence });
  let failures = 1;
  store.fail = (step) => {
    if (step.startsWith("commit") && failures-- > 0) {
      const message = "deadlock detected";
      throw new ReplicatorError({ code: "apply.serialization", message, retry: "now", fault: "environment" });
    }
  };
  await lane.settle(false);
  expect(journal.lines.filter((line) => !line.startsWith("ack"))).toEqual([
    "apply a1,a2,a3,a4,a5,a6,a7,a8",
    "commit a8",
    "apply a1,a2",
    "commit a2",
    "apply a3,a4,a5,a6",
    "commit a6",
    "apply a7,a8",
    "commit a8",
  ]);
  expect(store.positions.get("a")?.sequence).toBe(8);
});

test("a group that is undone again and again is left to the loop's recovery", async () => {
  const { store, lane, take } = laneOf();
  await take({ sequence: 1 });
  let tries = 0;
  store.fail = (step) => {
    if (!step.startsWith("commit")) return;
    tries++;
    const message = "deadlock detected";
    throw new ReplicatorError({ code: "apply.serialization", message, retry: "now", fault: "environment" });
  };
  await expect(lane.settle(false)).rejects.toThrow("deadlock");
  expect(tries).toBe(5);
});
