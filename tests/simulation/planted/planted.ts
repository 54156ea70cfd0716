/** What a planted fault may replace: rules of the model, or the wiring between the engine and the ports. Never the engine. */
import type { SourceStore } from "../../../src/core/source_store.ts";
import type { Rules } from "../database/rules.ts";
import type { SourceServer } from "../database/source.ts";
import type { Host } from "../kernel/host.ts";
import type { Narrowing } from "../profile.ts";

export interface Planted {
  readonly rules?: Partial<Rules>;
  /** Wraps the port that the engine gets. */
  source?(port: SourceStore, server: SourceServer, host: Host): SourceStore;
  /** The queue is read by ids above the last one seen. */
  readonly idCursor?: boolean;
  /** Deliveries are acknowledged when they are handed out. */
  readonly acknowledgesEarly?: boolean;
  /** The stamp of an INSERT is made before it waits for whoever holds its key. */
  readonly stampsBeforeWaiting?: boolean;
  /** Histories in which the fault has a chance to show. */
  readonly profile?: Narrowing;
}
