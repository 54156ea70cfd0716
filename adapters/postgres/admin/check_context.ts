/** What every check of `replicator check` is given. */
import type { Expectations } from "../../../src/core/admin.ts";
import type { Database } from "../connection.ts";

export interface CheckContext {
  readonly db: Database;
  readonly expected: Expectations;
  readonly signal: AbortSignal;
}
