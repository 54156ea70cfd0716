/** A target that must not take the next transaction yet: the channel stands still there, and the log is not suspected. */
import { expect, test } from "bun:test";
import { batchOf, boundaryOf } from "../../../src/consume/batch.ts";
import { GroupSize } from "../../../src/consume/group_size.ts";
import { Lane } from "../../../src/consume/lane.ts";
import { readClaim } from "../../../src/consume/reader.ts";
import { StoppedChannels } from "../../../src/consume/stopped_channels.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import type { LoopHealth } from "../../../src/core/loop.ts";
import { parseEnvelope } from "../../../src/core/message.ts";
import { HandClock } from "../../support/hand_clock.ts";
import { keepingLogger, type LogLine } from "../../support/log_lines.ts";
import { channels, claimOf, FakeStore, type FrameOptions, frame, HELD, Journal } from "./support.ts";

const halt = (sequence: number) =>
  new ReplicatorError({
    code: "apply.stopped",
    message: "Channel a/changes stops before transaction 7",
    retry: "backoff",
    fault: "environment",
    facts: { sequence, table: "users" },
    remedy: "ALTER TABLE users ADD COLUMN nick text",
  });

/** Commits throw as long as the message is in the group. */
function haltingAt(store: FakeStore, sequence: number): void {
  let group: string[] = [];
  store.fail = (step) => {
    const [what, names = ""] = step.split(" ");
    if (what === "apply") group = names.split(",");
    else if (group.includes(`a${sequence}`)) throw halt(sequence);
  };
}

function laneOf(sequence: number) {
  const journal = new Journal();
  const store = new FakeStore(journal);
  haltingAt(store, sequence);
  const key = { source: "a", channel: "changes", partition: 0 };
  const lane = new Lane(
    { store, key, feed: "log", lease: HELD, clock: systemClock, size: new GroupSize(100), onCommit: () => undefined },
    null,
  );
  const take = async (options: FrameOptions) => {
    const delivery = frame(journal, options.sequence, options);
    const envelope = parseEnvelope(delivery.headers);
    if (!envelope) throw new Error("a frame of ours");
    const batch = batchOf(envelope, delivery);
    await lane.take({ batch, delivery, boundary: boundaryOf(envelope), bytes: delivery.body.length });
  };
  return { journal, lane, take };
}

test("what comes before the message that halts is applied and acknowledged; the message is then tried alone", async () => {
  const { journal, lane, take } = laneOf(3);
  for (const sequence of [1, 2, 3, 4]) await take({ sequence });
  await expect(lane.settle(false)).rejects.toMatchObject({ code: "apply.stopped" });
  expect(journal.lines).toEqual([
    "apply a1,a2,a3,a4",
    "commit a4",
    "apply a1,a2",
    "commit a2",
    "ack a2",
    "apply a3",
    "commit a3",
  ]);
});

test("a transaction in parts is not torn by it", async () => {
  const { journal, lane, take } = laneOf(3);
  await take({ sequence: 1, cutNo: 1 });
  const part = (n: number, last = false) => ({ transaction: "7", part: n, last });
  await take({ sequence: 2, cutNo: 2, cutEnd: false, part: part(1) });
  await take({ sequence: 3, cutNo: 2, cutEnd: false, part: part(2) });
  await take({ sequence: 4, cutNo: 2, cutEnd: true, part: part(3, true) });
  await expect(lane.settle(false)).rejects.toMatchObject({ code: "apply.stopped" });
  expect(journal.lines.filter((line) => line.startsWith("apply"))).toEqual([
    "apply a1,a2,a3,a4",
    "apply a1",
    "apply a2,a3,a4",
  ]);
});

test("a contour that halts leaves the others of its topic going, and the log is read on from the ledger", async () => {
  const journal = new Journal();
  const store = new FakeStore(journal);
  haltingAt(store, 1);
  const [a, b] = [frame(journal, 0, { sequence: 1 }), frame(journal, 1, { contour: "b", sequence: 1 })];
  const { claim } = claimOf(channels("a", "b"), [a, b]);
  const stopped: string[] = [];
  const done = new AbortController();
  const reading = readClaim(
    {
      store,
      claim,
      clock: systemClock,
      logger: silentLogger,
      rewind: false,
      size: new GroupSize(100),
      onCommit: ({ key }) => {
        if (key.source === "b") done.abort();
      },
      onStop: (channel, error) => {
        stopped.push(`${channel.contour} ${error.code}`);
        return 60_000;
      },
      onMessage: () => undefined,
    },
    HELD,
    done.signal,
  );
  await reading;
  expect(stopped).toEqual(["a apply.stopped"]);
  expect(store.positions.has("a")).toBe(false);
  expect(store.positions.get("b")).toMatchObject({ sequence: 1 });
});

test("it is said once, with its code and remedy; the log is never read again for it, and it is tried every few seconds", () => {
  const lines: LogLine[] = [];
  const clock = new HandClock();
  const health: LoopHealth = { name: "", trouble: null, errors: 0, lastError: null };
  const stops = new StoppedChannels({
    feed: "log",
    partition: 0,
    clock,
    logger: keepingLogger(lines),
    health: (name) => Object.assign(health, { name }),
  });
  const [channel] = channels("a");
  if (!channel) throw new Error("a channel");
  const rests = Array.from({ length: 8 }, () => stops.stopped(channel, halt(1)));
  expect(rests.every((rest) => rest > 0 && rest <= 5_000)).toBe(true);
  expect(stops.takeRewind()).toBe(false);
  expect(lines.map(({ level, facts }) => [level, facts.code, facts.table, facts.remedy])).toEqual([
    ["error", "apply.stopped", "users", "ALTER TABLE users ADD COLUMN nick text"],
  ]);
  expect(health).toMatchObject({
    name: "channel a/changes[0]",
    trouble: "apply.stopped: Channel a/changes stops before transaction 7",
  });
  stops.over("a");
  expect(health.trouble).toBeNull();
});
