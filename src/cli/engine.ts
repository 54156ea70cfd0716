/** What the commands need of the rest of the program; src/main.ts puts it together, so that no command imports an adapter. */
import type { Config } from "../config/config.ts";
import type { Admin } from "../core/admin.ts";
import type { Broker } from "../core/broker.ts";
import type { Logger } from "../core/logger.ts";
import type { VerifySide } from "../core/verify.ts";

export interface RunContext {
  /** Aborts on the first SIGINT or SIGTERM: stop taking, finish, acknowledge, log totals, return. */
  readonly signal: AbortSignal;
  /** Takes what is to be done on SIGHUP. */
  onHangup(listener: () => void): void;
  readonly logger: Logger;
}

export interface DemoContext {
  readonly seconds: number;
  /** Row changes a second at each contour. */
  readonly rate: number;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** For people, as it is: the screen moves the cursor. */
  write(text: string): void;
  /** Redraw in place. */
  readonly terminal: boolean;
}

export interface Engine {
  openAdmin(config: Config, logger: Logger): Admin;
  openBroker(config: Config, logger: Logger): Broker;
  /** `against`: null for the configured database, "target" for that of direct mode, else a URL. */
  openVerifySide(config: Config, against: string | null, logger: Logger): VerifySide;
  /** Runs config.roles and the API until the signal aborts. @throws ReplicatorError what waiting cannot mend */
  run(config: Config, context: RunContext): Promise<void>;
  /** Whether both contours were equal at the end; null when it was interrupted. */
  demo(context: DemoContext): Promise<boolean | null>;
}
