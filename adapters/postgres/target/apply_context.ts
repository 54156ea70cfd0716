/** What an apply transaction is told by its store. */
import type { Connection, Database } from "../connection.ts";
import type { Catalog, TargetTable } from "./catalog/catalog.ts";
import type { Ahead } from "./parking/ahead.ts";
import type { TableNamed } from "./parking/catalog_digest.ts";
import type { Weighed } from "./parking/halt.ts";
import type { ParkContext } from "./parking/inbox.ts";
import type { Executor, SessionMode } from "./rows/execute.ts";

export interface ApplyContext {
  readonly db: Database;
  /** Our schema's quoted name. */
  readonly schema: string;
  readonly executor: Executor;
  readonly mode: SessionMode;
  readonly ledgerId: number;
  readonly source: string;
  readonly channel: string;
  readonly partition: number;
  readonly catalog: Catalog;
  /** on_unique_conflict: park. */
  readonly leavesUnique: (table: TargetTable) => boolean;
  /** `refusing`: for the sake of these tables only. */
  readonly reloadCatalog: (refusing?: readonly TableNamed[]) => Promise<Catalog>;
  /** Constraints are checked after every group, not only at commit: what was deferred cannot be told apart there. */
  readonly careful: boolean;
  /** Called when the transaction must be applied again, carefully. */
  readonly askForCare: () => void;
  /** Called once, with the position committed. */
  readonly onCommitted: (sequence: number) => void;
  readonly digestOf: ParkContext["digestOf"];
  /** Whether what is about to be parked, by inbox id, may be (halt.ts). */
  readonly weigh: (connection: Connection, ids: readonly string[]) => Promise<Weighed>;
  readonly onParked: (parked: Weighed) => void;
  /** How much more may be parked. */
  readonly room: () => { readonly entries: number };
  /** What was applied ahead of its position before; and what is now, told once it is committed. */
  readonly ahead: Ahead | null;
  readonly onAhead: (ahead: Ahead) => void;
}
