/**
 * What apply goes by. The decisions themselves are the engine's (src/core); a planted fault replaces one of them, here and
 * in the wiring of a history only (planted/faults.ts).
 */
import { arbitrate } from "../../../src/core/arbitration.ts";
import { greatestRow, greatestStamp } from "../../../src/core/merge.ts";
import { compareStamps, deletes, replaces } from "../../../src/core/stamp.ts";

export interface Rules {
  readonly replaces: typeof replaces;
  readonly deletes: typeof deletes;
  readonly compareStamps: typeof compareStamps;
  readonly greatestRow: typeof greatestRow;
  readonly greatestStamp: typeof greatestStamp;
  readonly arbitrate: typeof arbitrate;
  /** Whether an applied DELETE leaves a tombstone, an applied TRUNCATE a floor. */
  readonly tombstones: boolean;
  readonly floors: boolean;
  /** Whether what a constraint refuses is overridden by a captured change (law 3). */
  readonly overrides: boolean;
  /** Whether the deletions that apply cascades are captured. */
  readonly capturesCascades: boolean;
  /** Whether rows that a tombstone or a floor beats are removed in a statement after the upsert (review A4). */
  readonly sweeps: boolean;
  /** Whether keys of applied deletions are looked at again when all that was open at their commit has ended. */
  readonly looksAgain: boolean;
  /** Whether unique values are settled before a parent is revived above its deletion. */
  readonly settlesBeforeReviving: boolean;
  /** Whether an apply transaction verifies that the ledger stands where it was read. */
  readonly fence: boolean;
  /** Whether the position is kept in the target, and read from there. */
  readonly ledger: boolean;
}

export const RULES: Rules = {
  replaces,
  deletes,
  compareStamps,
  greatestRow,
  greatestStamp,
  arbitrate,
  tombstones: true,
  floors: true,
  overrides: true,
  capturesCascades: true,
  sweeps: true,
  looksAgain: true,
  settlesBeforeReviving: true,
  fence: true,
  ledger: true,
};
