import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { childrenOf, resetPeak, usageOf } from "../../../bench/usage.ts";

test.skipIf(process.platform !== "linux")(
  "a tree's processor time has that of its children, also when they have ended",
  async () => {
    // The outer shell only waits; the inner ones work, one ends before it is asked.
    const work = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
    const child = spawn("sh", ["-c", `sh -c '${work}'; sh -c '${work}; echo done; read x'; true`], {
      stdio: ["pipe", "pipe", "ignore"],
    });
    const pid = child.pid ?? 0;
    try {
      await once(child.stdout, "data");
      expect(childrenOf(process.pid)).toContain(pid);
      const { tree, alone } = usageOf({ tree: { pid, tree: true }, alone: { pid, tree: false } });
      // What has ended belongs to its parent; what runs does not yet.
      expect(alone?.cpuSeconds).toBeGreaterThan(0.05);
      expect(tree?.cpuSeconds).toBeGreaterThan((alone?.cpuSeconds ?? 0) + 0.05);
      expect(tree?.peakMb).toBeGreaterThan(0);
      expect(alone?.peakMb).toBeGreaterThan(0);
    } finally {
      child.stdin.end();
      await once(child, "exit");
    }
  },
);

test.skipIf(process.platform !== "linux")(
  "a peak that was reset is that of what the process takes from then on",
  async () => {
    const work = "x=$(head -c 40000000 /dev/zero | tr '\\0' x); unset x; echo done; read y";
    const child = spawn("sh", ["-c", work], { stdio: ["pipe", "pipe", "inherit"] });
    const pid = child.pid ?? 0;
    const peak = () => usageOf({ it: { pid, tree: false } }).it?.peakMb ?? 0;
    try {
      await once(child.stdout, "data");
      const before = peak();
      expect(before).toBeGreaterThan(35);
      resetPeak(pid);
      expect(peak()).toBeGreaterThan(0);
      expect(peak()).toBeLessThan(before - 20);
    } finally {
      child.stdin.end();
      await once(child, "exit");
    }
  },
);

test.skipIf(process.platform !== "linux")("a process that is gone has used nothing", () => {
  expect(usageOf({ gone: { pid: 2 ** 30, tree: true } })).toEqual({ gone: { cpuSeconds: 0, peakMb: 0 } });
});
