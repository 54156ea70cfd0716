/**
 * PostgreSQL's locks as far as they matter here: held to the end of the transaction, waited for, and a deadlock found.
 * `share`: FOR KEY SHARE, or using a table; `update`: FOR NO KEY UPDATE; `all`: a deletion, a key, a value, a whole table.
 */
import { SqlError } from "./sql_error.ts";

export type Mode = "share" | "update" | "all";

export interface LockHolder {
  readonly label: string;
  readonly held: Map<string, Mode>;
  /** What it waits for. */
  waiting: { readonly resource: string; readonly mode: Mode } | null;
}

const STRENGTH: Readonly<Record<Mode, number>> = { share: 0, update: 1, all: 2 };

function conflicts(a: Mode, b: Mode): boolean {
  return a === "all" || b === "all" || (a === "update" && b === "update");
}

export class Locks {
  readonly #holders = new Map<string, Set<LockHolder>>();

  /** False when somebody holds it: wait, then ask again. @throws SqlError 40P01 when waiting would be for ever */
  take(holder: LockHolder, resource: string, mode: Mode): boolean {
    const own = holder.held.get(resource);
    if (own !== undefined && STRENGTH[own] >= STRENGTH[mode]) return true;
    const holders = this.#holders.get(resource);
    if (holders && this.#inTheWay(holder, resource, mode).length > 0) {
      holder.waiting = { resource, mode };
      if (this.#waitsFor(holder, holder, new Set())) {
        holder.waiting = null;
        throw new SqlError("40P01", `deadlock: ${holder.label} waits for ${resource}`);
      }
      return false;
    }
    holder.waiting = null;
    holder.held.set(resource, mode);
    if (holders) holders.add(holder);
    else this.#holders.set(resource, new Set([holder]));
    return true;
  }

  /** Gives up everything; returns the resources somebody may wait for. */
  release(holder: LockHolder): readonly string[] {
    const resources = [...holder.held.keys()];
    for (const resource of resources) {
      const holders = this.#holders.get(resource);
      holders?.delete(holder);
      if (holders?.size === 0) this.#holders.delete(resource);
    }
    holder.held.clear();
    holder.waiting = null;
    return resources;
  }

  #inTheWay(holder: LockHolder, resource: string, mode: Mode): LockHolder[] {
    return [...(this.#holders.get(resource) ?? [])].filter(
      (other) => other !== holder && conflicts(other.held.get(resource) ?? "share", mode),
    );
  }

  #waitsFor(from: LockHolder, goal: LockHolder, seen: Set<LockHolder>): boolean {
    if (!from.waiting || seen.has(from)) return false;
    seen.add(from);
    const others = this.#inTheWay(from, from.waiting.resource, from.waiting.mode);
    return others.some((other) => other === goal || this.#waitsFor(other, goal, seen));
  }
}
