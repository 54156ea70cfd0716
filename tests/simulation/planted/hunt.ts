/** Runs histories with a fault planted until a check fails; then the same histories without it, which must all pass. */
import { type Failure, runHistory } from "../history.ts";
import type { Fault } from "./faults.ts";

export interface Hunted {
  readonly fault: Fault;
  /** Null: not caught within the histories allowed. */
  readonly failure: Failure | null;
  readonly seed: number;
  readonly histories: number;
  /** What the same histories came to without the fault; null: all passed. */
  readonly clean: { readonly seed: number; readonly failure: Failure } | null;
}

/** @param most histories at most */
export function hunt(fault: Fault, most: number, firstSeed = 1): Hunted {
  for (let seed = firstSeed; seed < firstSeed + most; seed++) {
    const { failure } = runHistory({ seed, planted: fault });
    if (!failure) continue;
    return { fault, failure, seed, histories: seed - firstSeed + 1, clean: runClean(fault, firstSeed, seed) };
  }
  return { fault, failure: null, seed: 0, histories: most, clean: null };
}

function runClean(fault: Fault, from: number, to: number): Hunted["clean"] {
  for (let seed = from; seed <= to; seed++) {
    const { failure } = runHistory({ seed, planted: { ...(fault.profile && { profile: fault.profile }) } });
    if (failure) return { seed, failure };
  }
  return null;
}
