import { describe, expect, test } from "bun:test";
import { Mailbox } from "../../../src/core/mailbox.ts";

const never = new AbortController().signal;

async function all<T>(mailbox: Mailbox<T>, signal: AbortSignal = never): Promise<T[]> {
  const values: T[] = [];
  for await (const value of mailbox.values(signal)) values.push(value);
  return values;
}

describe("Mailbox", () => {
  test("gives values in order, those put before and after the iteration began", async () => {
    const mailbox = new Mailbox<number>();
    mailbox.put(1);
    const reading = all(mailbox);
    await Promise.resolve();
    expect(mailbox.put(2)).toBe(true);
    mailbox.end();
    expect(mailbox.put(3)).toBe(false);
    expect(await reading).toEqual([1, 2]);
  });

  test("a failure is thrown after the values inside", async () => {
    const mailbox = new Mailbox<number>();
    const seen: number[] = [];
    mailbox.put(1);
    mailbox.fail(new Error("broken"));
    const reading = (async () => {
      for await (const value of mailbox.values(never)) seen.push(value);
    })();
    await expect(reading).rejects.toThrow("broken");
    expect(seen).toEqual([1]);
  });

  test("the signal ends a blocked iteration quietly", async () => {
    const mailbox = new Mailbox<number>();
    const stop = new AbortController();
    const reading = all(mailbox, stop.signal);
    await Promise.resolve();
    stop.abort();
    expect(await reading).toEqual([]);
    mailbox.fail(new Error("too late to matter"));
    expect(await all(mailbox, stop.signal)).toEqual([]);
  });
});
