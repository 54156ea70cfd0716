import { expect, test } from "bun:test";
import { channelSubject, covers, durableName, overlaps, partitionSubject } from "../../../../adapters/nats/names.ts";

test("a channel's subject names contour and channel, and the partition when there are several", () => {
  const subject = channelSubject({ contour: "active", name: "changes" });
  expect(subject).toBe("replicator.active.changes");
  expect(partitionSubject(subject, 1, 0)).toBe("replicator.active.changes");
  expect(partitionSubject(subject, 4, 3)).toBe("replicator.active.changes.3");
});

test("a channel name that NATS would read as a pattern, or cannot carry, is refused with the configuration's path", () => {
  for (const name of ["a b", "a.*", ">", "a..b", "", "täble"]) {
    expect(() => channelSubject({ contour: "a", name })).toThrow(
      expect.objectContaining({ code: "broker.bad_channel_name", remedy: expect.stringContaining("topic") }),
    );
  }
});

test("durables of different groups and subjects differ, also where the readable parts agree", () => {
  const names = [
    durableName("g", "replicator.a.x_y"),
    durableName("g", "replicator.a.x.y"),
    durableName("g_", "replicator.a.x.y"),
    durableName("g", "replicator.a.x.y.1"),
    durableName("g".repeat(200), "replicator.a.x"),
    durableName("g".repeat(201), "replicator.a.x"),
  ];
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(name).toMatch(/^[A-Za-z0-9_-]{1,128}$/);
  expect(durableName("g", "replicator.a.changes")).toBe(durableName("g", "replicator.a.changes"));
});

test("a pattern covers what it takes in, and overlaps what it shares a subject with", () => {
  const ours = "replicator.a.>";
  expect(["replicator.>", "replicator.a.>", ">", "replicator.*.>"].map((other) => covers(other, ours))).toEqual([
    true,
    true,
    true,
    true,
  ]);
  expect(
    ["replicator.a.*", "replicator.b.>", "replicator.a", "replicator.a.changes"].map((other) => covers(other, ours)),
  ).toEqual([false, false, false, false]);
  expect(["replicator.a.*", "replicator.*.changes", ">", "*.a.x.y"].map((other) => overlaps(other, ours))).toEqual([
    true,
    true,
    true,
    true,
  ]);
  expect(["replicator.b.>", "replicator.a", "other.>", "replicator"].map((other) => overlaps(other, ours))).toEqual([
    false,
    false,
    false,
    false,
  ]);
});
