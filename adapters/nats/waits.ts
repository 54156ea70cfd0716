/** Waits that end: by what is awaited, or by a signal. */

/** The error a wait ends with when its signal aborts; `isAbort` knows it. */
export function abortError(): Error {
  return new DOMException("The wait was ended by its signal", "AbortError");
}

/** @throws AbortError as soon as the signal aborts; otherwise what the promise gives. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    promise.catch(() => {}); // nobody is left to hear of it
    throw abortError();
  }
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(abortError());
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    if (onAbort) signal.removeEventListener("abort", onAbort);
  }
}

/** A flag that can be awaited again and again; every `wake` ends the waits of the moment. */
export class Pulse {
  #resolve: (() => void) | null = null;
  #promise: Promise<void> | null = null;

  wait(): Promise<void> {
    this.#promise ??= new Promise((resolve) => {
      this.#resolve = resolve;
    });
    return this.#promise;
  }

  wake(): void {
    this.#resolve?.();
    this.#resolve = null;
    this.#promise = null;
  }
}
