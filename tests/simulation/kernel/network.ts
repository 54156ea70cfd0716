/**
 * Calls from a process to a server. At every one of them the seed decides: it completes, it completes late, it fails before
 * it took effect, it takes effect and the answer is lost, or the process dies before or after the effect.
 */
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { Host } from "./host.ts";
import type { Random } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

/** Probabilities, per call. */
export interface Hazards {
  readonly late: number;
  readonly refused: number;
  readonly lost: number;
  readonly dies: number;
}

export const NO_HAZARDS: Hazards = { late: 0, refused: 0, lost: 0, dies: 0 };

/** How a server answers; at once or later. */
export interface Answer<T> {
  done(value: T): void;
  failed(error: unknown): void;
}

export interface NetworkOptions {
  readonly scheduler: Scheduler;
  readonly random: Random;
  hazards(): Hazards;
  /** Whether a server cannot be reached now. */
  isDown(server: string): boolean;
  trace(line: () => string): void;
}

/** Longest delay of a late call: longer than both leases. */
const LATEST_MS = 9_000;

export class Network {
  readonly #options: NetworkOptions;

  constructor(options: NetworkOptions) {
    this.#options = options;
  }

  /** @param serve the server's side; whatever becomes of the caller, it is done whole or not at all */
  call<T>(host: Host, server: string, what: string, serve: (answer: Answer<T>) => void): Promise<T> {
    const { scheduler, random, trace } = this.#options;
    const fate = this.#fate();
    return new Promise<T>((resolve, reject) => {
      const arrive = () => {
        // A process that died meanwhile may or may not have got its request out.
        if (!host.alive && random.chance(0.5)) return;
        if (fate === "dies before") {
          trace(() => `${host.name} DIES before ${what}`);
          host.kill();
          return;
        }
        if (fate === "refused" || this.#options.isDown(server)) {
          trace(() => `${host.name} ${what}: refused`);
          this.#deliver(host, true, () => reject(unreachable(server, what)));
          return;
        }
        let serving = true;
        const reply = (settle: () => void) => {
          if (fate === "dies after") {
            trace(() => `${host.name} DIES after ${what}`);
            host.kill();
          } else if (fate === "lost") {
            trace(() => `${host.name} ${what}: done, answer LOST`);
            this.#deliver(host, false, () => reject(unreachable(server, what)));
          } else this.#deliver(host, serving, settle);
        };
        serve({ done: (value) => reply(() => resolve(value)), failed: (error) => reply(() => reject(error)) });
        serving = false;
      };
      scheduler.after(this.#latency(fate), null, arrive);
    });
  }

  /** A call whose server answers at once. */
  ask<T>(host: Host, server: string, what: string, serve: () => T): Promise<T> {
    return this.call<T>(host, server, what, (answer) => {
      let value: T;
      try {
        value = serve();
      } catch (error) {
        answer.failed(error);
        return;
      }
      answer.done(value);
    });
  }

  #fate(): "ok" | "late" | "refused" | "lost" | "dies before" | "dies after" {
    const { random } = this.#options;
    const { late, refused, lost, dies } = this.#options.hazards();
    const draw = random.next();
    if (draw < late) return "late";
    if (draw < late + refused) return "refused";
    if (draw < late + refused + lost) return "lost";
    if (draw < late + refused + lost + dies) return random.chance(0.5) ? "dies before" : "dies after";
    return "ok";
  }

  #latency(fate: string): number {
    const { random } = this.#options;
    // Late by a little more often than by much: the square keeps both in sight.
    return fate === "late" ? random.next() ** 2 * LATEST_MS : random.between(0.1, 1.2);
  }

  /** At once where that is possible: an event less. */
  #deliver(host: Host, atOnce: boolean, settle: () => void): void {
    const { scheduler, random } = this.#options;
    if (atOnce && host.alive && host.frozenUntil <= scheduler.now && random.chance(0.7)) {
      scheduler.become(host);
      settle();
    } else scheduler.after(random.between(0.05, 1.5), host, settle);
  }
}

export function unreachable(server: string, what: string): ReplicatorError {
  return new ReplicatorError({
    code: "simulation.unreachable",
    message: `Lost the connection to ${server} during: ${what}`,
    retry: "backoff",
    fault: "environment",
  });
}
