import { expect, test } from "bun:test";
import { abandoning } from "../../../src/consume/abandoning.ts";
import type { ApplyTransaction, LedgerKey } from "../../../src/core/target_store.ts";
import { LEASE } from "./support.ts";

const KEY: LedgerKey = { source: "a", channel: "changes", partition: 0 };

/** A transaction whose statements wait until it is abandoned. */
function silent() {
  const done: string[] = [];
  let reject = (_: Error) => {};
  const answer = new Promise<never>((_, fail) => (reject = fail));
  answer.catch(() => undefined);
  const transaction: ApplyTransaction = {
    apply: () => answer,
    commit: () => answer,
    rollback: async () => void done.push("rollback"),
    abandon: () => {
      done.push("abandon");
      reject(new Error("given up"));
    },
  };
  return { done, transaction };
}

test("I8: what waits for an answer ends when the lease is lost, whether it applies or commits", async () => {
  for (const step of ["apply", "commit"] as const) {
    const { done, transaction } = silent();
    const lost = new AbortController();
    const begun = await abandoning({ begin: async () => transaction }, lost.signal).begin(KEY, null, "log", LEASE);
    const waiting = step === "apply" ? begun.apply([]) : begun.commit();
    waiting.catch(() => undefined);
    lost.abort();
    await expect(waiting).rejects.toThrow("given up");
    expect(done).toEqual(["abandon"]);
  }
});

test("a lease lost while the transaction begins ends it too", async () => {
  const { done, transaction } = silent();
  const lost = new AbortController();
  const store = {
    begin: async () => {
      lost.abort();
      return transaction;
    },
  };
  await abandoning(store, lost.signal).begin(KEY, null, "log", LEASE);
  expect(done).toEqual(["abandon"]);
});

test("a transaction that has ended is left alone: its connection is somebody else's by then", async () => {
  const { done, transaction } = silent();
  const lost = new AbortController();
  const begun = await abandoning({ begin: async () => transaction }, lost.signal).begin(KEY, null, "log", LEASE);
  await begun.rollback();
  lost.abort();
  expect(done).toEqual(["rollback"]);
});
