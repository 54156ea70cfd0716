/**
 * AbortController and AbortSignal as plain objects. The runtime's own keep a dependent signal with listeners alive for as
 * long as its source lives, and the listeners the source: of a process that is killed, and so never aborts, nothing would
 * ever be freed. These are ordinary garbage with their history, and abort in the same order.
 */

type Listener = () => void;

/** One for all: an exception of its own for each would be most of what an abort costs. */
const ABORTED = new DOMException("The operation was aborted.", "AbortError");

class ModelSignal {
  aborted = false;
  reason: unknown = undefined;
  /** In the order of registration; a listener is there once. */
  #listeners = new Set<Listener>();
  /** Signals made of this one by `any`. */
  #dependents: ModelSignal[] = [];
  readonly #sources: ModelSignal[] = [];

  static abort(reason: unknown = ABORTED): ModelSignal {
    const signal = new ModelSignal();
    signal.fire(reason);
    return signal;
  }

  static any(signals: Iterable<ModelSignal>): ModelSignal {
    const either = new ModelSignal();
    const sources = [...signals];
    const over = sources.find((source) => source.aborted);
    if (over) {
      either.aborted = true;
      either.reason = over.reason;
      return either;
    }
    // As the standard has it: a dependent of a dependent hangs on what that one hangs on.
    for (const source of sources) {
      for (const root of source.#sources.length > 0 ? source.#sources : [source]) {
        if (either.#sources.includes(root)) continue;
        either.#sources.push(root);
        root.#dependents.push(either);
      }
    }
    return either;
  }

  throwIfAborted(): void {
    if (this.aborted) throw this.reason;
  }

  addEventListener(_type: "abort", listener: Listener): void {
    this.#listeners.add(listener);
  }

  removeEventListener(_type: "abort", listener: Listener): void {
    this.#listeners.delete(listener);
  }

  fire(reason: unknown): void {
    if (this.aborted) return;
    const dependents = this.#dependents.filter((dependent) => !dependent.aborted);
    this.#dependents = [];
    for (const signal of [this, ...dependents]) {
      signal.aborted = true;
      signal.reason = reason;
    }
    for (const signal of [this, ...dependents]) signal.#tell();
  }

  #tell(): void {
    // A listener that an earlier one removed is not called; it is called once, for a signal aborts once.
    for (const listener of [...this.#listeners]) if (this.#listeners.delete(listener)) listener();
  }
}

class ModelController {
  readonly signal = new ModelSignal();

  abort(reason: unknown = ABORTED): void {
    this.signal.fire(reason);
  }
}

/** What stands in for the globals of these names. */
export const MODEL_SIGNALS = { AbortController: ModelController, AbortSignal: ModelSignal };
