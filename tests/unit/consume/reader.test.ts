import { expect, test } from "bun:test";
import { GroupSize } from "../../../src/consume/group_size.ts";
import { type ReaderOptions, readClaim } from "../../../src/consume/reader.ts";
import type { Delivery } from "../../../src/core/broker.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import { until } from "../../support/until.ts";
import { channels, claimOf, FakeStore, type FrameOptions, frame, HELD, Journal } from "./support.ts";

function readerOf(contours: readonly string[], frames: readonly FrameOptions[], options: Partial<ReaderOptions> = {}) {
  const journal = new Journal();
  const store = new FakeStore(journal);
  const deliveries: Delivery[] = frames.map((one, offset) => frame(journal, offset, one));
  const { claim, asked } = claimOf(channels(...contours), deliveries);
  const kinds: string[] = [];
  const stops: string[] = [];
  const stop = new AbortController();
  const run = () =>
    readClaim(
      {
        store,
        claim,
        clock: systemClock,
        logger: silentLogger,
        rewind: false,
        size: new GroupSize(1),
        onCommit: () => undefined,
        onMessage: (kind) => void kinds.push(kind),
        onStop: (channel, error) => {
          stops.push(`${channel.contour} ${error.code}`);
          return 600_000;
        },
        ...options,
      },
      HELD,
      stop.signal,
    );
  return { journal, store, asked, kinds, stops, stop, run };
}

const applied = (journal: Journal) => journal.lines.filter((line) => line.startsWith("apply"));

test("reading begins at the ledger's position, on a shared log at the smallest; what was applied is dropped", async () => {
  const frames = [
    { contour: "a", sequence: 1 },
    { contour: "b", sequence: 1 },
    { contour: "a", sequence: 2 },
    { contour: "b", sequence: 2 },
  ];
  const { journal, store, asked, kinds, stop, run } = readerOf(["a", "b"], frames);
  const at = (sequence: number, offset: string) => ({
    epoch: 1,
    sequence,
    cutNo: sequence,
    position: { identity: "log", offset },
  });
  store.positions.set("a", at(2, "3"));
  store.positions.set("b", at(1, "2"));
  const running = run();
  await until("the missing one is applied", () => applied(journal).length === 1 || journal.lines);
  stop.abort();
  await running;
  expect(asked).toEqual([{ identity: "log", offset: "2" }]);
  expect(applied(journal)).toEqual(["apply b2"]);
  expect(kinds).toEqual(["duplicate", "new"]);
});

test("I4: on a shared log a commit does not acknowledge what another contour has not committed before it", async () => {
  const frames = [
    { contour: "b", sequence: 1, cutEnd: false, part: { transaction: "9", part: 1, last: false } },
    { contour: "a", sequence: 1 },
  ];
  const { journal, stop, run } = readerOf(["a", "b"], frames);
  const running = run();
  await until("it is committed", () => journal.lines.includes("commit a1") || journal.lines);
  stop.abort();
  await running;
  expect(journal.lines.filter((line) => line.startsWith("ack"))).toEqual([]);
});

test("I10: a contour that is not accepted passes by, and is acknowledged", async () => {
  const { journal, kinds, stop, run } = readerOf(["a"], [{ contour: "z", sequence: 9 }, { sequence: 1 }]);
  const running = run();
  await until("ours is committed", () => journal.lines.includes("ack a1") || journal.lines);
  stop.abort();
  await running;
  expect(kinds).toEqual(["foreign", "new"]);
  expect(applied(journal)).toEqual(["apply a1"]);
});

test("I5: a contour with a hole stops after the grace, nothing of it is skipped, the other one goes on", async () => {
  const frames = [
    { contour: "a", sequence: 2 },
    { contour: "b", sequence: 1 },
    { contour: "b", sequence: 2 },
  ];
  const { journal, stops, stop, run } = readerOf(["a", "b"], frames);
  const running = run();
  await until("it stops", () => stops.length > 0);
  stop.abort();
  await running;
  expect(stops).toEqual(["a consume.gap"]);
  expect(applied(journal)).toEqual(["apply b1", "apply b2"]);
  expect(journal.lines.filter((line) => line.startsWith("ack"))).toEqual([]);
});

test("what stopped is tried again after its rest: the reading ends, so that the next one begins at the ledger", async () => {
  const { stops, run } = readerOf(["a"], [{ sequence: 2 }], {
    onStop: () => {
      stops.push("stopped");
      return 0;
    },
  });
  await run();
  expect(stops).toEqual(["stopped"]);
});

test("I8: a failure ends the reading with what is not committed forgotten", async () => {
  const { journal, store, run } = readerOf(["a"], [{ sequence: 1 }, { sequence: 2 }]);
  store.fail = (step) => {
    if (step === "commit a2") throw new Error("the target is away");
  };
  await expect(run()).rejects.toThrow("away");
  expect(store.positions.get("a")?.sequence).toBe(1);
  expect(journal.lines.filter((line) => line.startsWith("ack"))).toEqual(["ack a1"]);
});

test("I5: a restart reads again what came before its turn and is not applied yet", async () => {
  const { store, run } = readerOf(["a"], [{ sequence: 1 }, { sequence: 3 }, { sequence: 2 }]);
  store.fail = (step) => {
    if (step === "commit a3") throw new Error("the target is away");
  };
  await expect(run()).rejects.toThrow("away");
  // Sequence 3 lies at offset 1, before sequence 2: a position after the latter would pass it.
  expect(store.positions.get("a")).toMatchObject({ sequence: 2, position: { identity: "log", offset: "1" } });
});
