/**
 * Start and stop as one tested contract (after river's startstop and zero-cache's running-state): stop before start,
 * stop twice, a start that half failed, and a run that ends by itself all come out the same way.
 */
import { isAbort } from "./errors.ts";

export interface ServiceOptions {
  readonly name: string;
  /**
   * The whole life of the service. Calls `ready()` once it is of use; returns soon after `signal` aborts; cleans up
   * after itself on every path. A rejection other than an abort is the service's failure.
   */
  run(context: { readonly signal: AbortSignal; ready(): void }): Promise<void>;
}

type State = "idle" | "running" | "ended";

export class Service {
  readonly name: string;
  readonly #run: ServiceOptions["run"];
  readonly #abort = new AbortController();
  #state: State = "idle";
  #ended: Promise<void> = Promise.resolve();
  #failure: unknown = null;

  constructor(options: ServiceOptions) {
    this.name = options.name;
    this.#run = options.run;
  }

  get running(): boolean {
    return this.#state === "running";
  }

  /** What made the run end, or null. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Resolves when the run has ended for whatever reason; never rejects. Resolved at once before the start. */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /**
   * Resolves when the service is ready, rejects with its failure when it ends before that. After stop() it does nothing
   * and resolves: the stop has won. A second start is a mistake of the caller.
   */
  start(): Promise<void> {
    if (this.#abort.signal.aborted) return Promise.resolve();
    if (this.#state !== "idle") return Promise.reject(new Error(`Service "${this.name}" was started twice`));
    this.#state = "running";
    return new Promise((resolve, reject) => {
      const context = { signal: this.#abort.signal, ready: resolve };
      this.#ended = Promise.resolve()
        .then(() => this.#run(context))
        .catch((error: unknown) => {
          if (this.#abort.signal.aborted && isAbort(error)) return;
          this.#failure = error;
          reject(error);
        })
        .finally(() => {
          this.#state = "ended";
          resolve();
        });
    });
  }

  /** Asks the run to end and waits until it has. Safe at any time, any number of times; never rejects. */
  stop(): Promise<void> {
    this.#abort.abort();
    return this.#ended;
  }
}

/** Closes last-in-first-out and collects every error; closing twice is normal. */
export class Closers {
  readonly #stack: { name: string; close: () => Promise<void> | void }[] = [];

  add(name: string, close: () => Promise<void> | void): void {
    this.#stack.push({ name, close });
  }

  /** @throws AggregateError when one or more failed; all have been tried. */
  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (let item = this.#stack.pop(); item; item = this.#stack.pop()) {
      try {
        await item.close();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, "Closing left errors behind");
  }
}
