import { afterEach, describe, expect, test } from "bun:test";
import { EventEmitter } from "node:events";
import { type Signals, watchSignals } from "../../../src/cli/signals.ts";
import { until } from "../../support/until.ts";

// Not the process: handlers of the test run itself would end it.
const source = new EventEmitter();
let watched: Signals | null = null;
afterEach(() => watched?.dispose());

function watch(timeoutMs: number) {
  const codes: number[] = [];
  const said: string[] = [];
  watched = watchSignals({ timeoutMs, source, say: (text) => said.push(text), exit: (code) => codes.push(code) });
  return { signals: watched, codes, said };
}

describe("signals", () => {
  test("the first asks to stop, the second ends at once with 128 and its number", () => {
    const { signals, codes } = watch(60_000);
    expect(signals.forcedCode).toBeNull();
    source.emit("SIGTERM");
    expect([signals.signal.aborted, signals.forcedCode, codes.length]).toEqual([true, 143, 0]);
    source.emit("SIGINT");
    expect(codes).toEqual([130]);
  });

  test("a stop that takes longer than the timeout is forced", async () => {
    const { codes, said } = watch(1);
    source.emit("SIGINT");
    await until("the forced end", async () => codes.length > 0);
    expect(codes).toEqual([130]);
    expect(said[0]).toContain("service.shutdown_timeout");
  });

  test("SIGHUP does what was asked, each time, and ends nothing; nobody hears it before and after", () => {
    const { signals, codes } = watch(1_000);
    expect(source.listenerCount("SIGHUP")).toBe(0);
    let heard = 0;
    signals.onHangup(() => heard++);
    source.emit("SIGHUP");
    source.emit("SIGHUP");
    expect([heard, signals.signal.aborted, codes.length]).toEqual([2, false, 0]);
    signals.dispose();
    expect(source.listenerCount("SIGHUP")).toBe(0);
  });

  test("dispose takes the handlers away", () => {
    const before = source.listenerCount("SIGTERM");
    const { signals } = watch(1_000);
    expect(source.listenerCount("SIGTERM")).toBe(before + 1);
    signals.dispose();
    expect(source.listenerCount("SIGTERM")).toBe(before);
  });
});
