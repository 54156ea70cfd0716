/** Keys to be looked at again once nobody can commit a row below what deleted them (architecture §6.5). */
import type { TableDefinition } from "./schema.ts";
import type { Transaction } from "./transaction.ts";

export interface SecondLook {
  readonly table: TableDefinition;
  /** Null: a floor, all keys. */
  readonly key: string | null;
  /** What was open when the transaction that asked for it had committed. Its own xid would not do: a later one may be open. */
  readonly open: readonly Transaction[];
}

export class SecondLooks {
  #waiting: SecondLook[] = [];

  get size(): number {
    return this.#waiting.length;
  }

  /** Call when the transaction that asks for it has just committed. @param open the transactions under way */
  add(tx: Transaction, open: Iterable<Transaction>, table: TableDefinition, key: string | null): void {
    this.#waiting.push({ table, key, open: [...open].filter((other) => other !== tx) });
  }

  /** Those that can be judged now. */
  get due(): readonly SecondLook[] {
    return this.#waiting.filter(({ open }) => open.every(({ state }) => state !== "open"));
  }

  done(looks: readonly SecondLook[]): void {
    this.#waiting = this.#waiting.filter((look) => !looks.includes(look));
  }
}
