/** Apply transactions that end with the lease they are under. */
import type { TargetStore } from "../core/target_store.ts";

/**
 * The store's transactions, given up when `lost` aborts: an answer that a silent network has swallowed is not waited for,
 * and the next owner of the lease finds no lock of ours (I8).
 */
export function abandoning(store: Pick<TargetStore, "begin">, lost: AbortSignal): Pick<TargetStore, "begin"> {
  return {
    begin: async (...where) => {
      const transaction = await store.begin(...where);
      const abandon = () => transaction.abandon();
      const over = () => lost.removeEventListener("abort", abandon);
      lost.addEventListener("abort", abandon, { once: true });
      if (lost.aborted) abandon();
      return {
        apply: (batches) => transaction.apply(batches),
        commit: () => transaction.commit().finally(over),
        rollback: () => transaction.rollback().finally(over),
        abandon,
      };
    },
  };
}
