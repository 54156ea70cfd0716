/** What the roles of one process share; made by src/run.ts. */
import type { Config } from "../config/config.ts";
import type { Broker } from "../core/broker.ts";
import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import type { Metrics } from "../core/metrics.ts";
import type { ProcessStatus } from "../process_status.ts";

export interface Engine {
  readonly config: Config;
  readonly broker: Broker;
  readonly status: ProcessStatus;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Names this process in leases. */
  readonly owner: string;
}

/** What the consumer role needs of it: in direct mode the source's queue stands in for the broker. */
export type ConsumerEngine = Omit<Engine, "broker"> & { readonly broker: Pick<Broker, "feeds" | "claims"> };
