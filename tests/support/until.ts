/** The only polling tests may do: waits for a condition, never for a time. */

const EVERY_MS = 25;

/**
 * Resolves when `look` returns true. Anything else it returns is the last value seen.
 * @throws Error that names the condition and the last value seen when `timeoutMs` have passed
 */
export async function until(condition: string, look: () => unknown, timeoutMs = 30_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const seen = await look();
    if (seen === true) return;
    if (performance.now() > deadline) {
      throw new Error(`Waited ${timeoutMs} ms until ${condition}; last seen: ${JSON.stringify(seen)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}
