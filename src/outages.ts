/** That a server does not answer is said once per outage (interface §1), whoever notices first: the probe, an adapter, a loop. */
import type { Logger } from "./core/logger.ts";

/** `target`: the second database of direct mode. */
export type ServerKind = "broker" | "database" | "target";

/** Codes of errors that say no more than that a server does not answer. */
const UNANSWERED: ReadonlyMap<unknown, "broker" | "database"> = new Map([
  ["broker.unreachable", "broker"],
  ["database.unreachable", "database"],
  ["database.timeout", "database"],
]);

export class Outages {
  readonly #told = new Set<ServerKind>();

  /** Whether the caller is the first to tell of this outage: then a line is to be written, else none. */
  tell(server: ServerKind): boolean {
    if (this.#told.has(server)) return false;
    this.#told.add(server);
    return true;
  }

  /** The server answers: the next outage is told again. Returns whether one was told of. */
  over(server: ServerKind): boolean {
    return this.#told.delete(server);
  }

  /**
   * The same logger, but for a warning with the code of an outage that has been told of: that goes to debug.
   * @param database which of two it is that does not answer
   */
  once(logger: Logger, database: "database" | "target" = "database"): Logger {
    return {
      debug: (facts, message) => logger.debug(facts, message),
      info: (facts, message) => logger.info(facts, message),
      warn: (facts, message) => {
        const kind = UNANSWERED.get(Reflect.get(facts, "code"));
        const server = kind === "database" ? database : kind;
        logger[server === undefined || this.tell(server) ? "warn" : "debug"](facts, message);
      },
      error: (facts, message) => logger.error(facts, message),
      child: (facts) => this.once(logger.child(facts), database),
    };
  }
}
