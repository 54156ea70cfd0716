/**
 * SIGINT and SIGTERM: the first asks, the second ends at once, and a stop that takes too long is forced (interface §1).
 * SIGHUP ends the program as well, unless a command has something to do on it.
 */
import process from "node:process";

const NUMBERS = { SIGINT: 2, SIGTERM: 15 } as const;
type SignalName = keyof typeof NUMBERS;

export interface SignalSource {
  on(name: SignalName | "SIGHUP", listener: () => void): unknown;
  off(name: SignalName | "SIGHUP", listener: () => void): unknown;
}

export interface SignalOptions {
  /** From the first signal to the forced end. */
  readonly timeoutMs: number;
  say(text: string): void;
  /** For tests; default process.exit. */
  readonly exit?: (code: number) => void;
  /** For tests; default process. */
  readonly source?: SignalSource;
}

export interface Signals {
  /** Aborts on the first signal. */
  readonly signal: AbortSignal;
  /** 128 + the number of the first signal, or null. */
  readonly forcedCode: number | null;
  /** From now on SIGHUP does this, each time, and ends nothing. */
  onHangup(listener: () => void): void;
  dispose(): void;
}

export function watchSignals(options: SignalOptions): Signals {
  const { timeoutMs, say, exit = (code) => process.exit(code), source = process } = options;
  const stop = new AbortController();
  const hangups: (() => void)[] = [];
  let first: SignalName | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const onSignal = (name: SignalName) => {
    if (first !== null) {
      say(`${name} again: ending at once`);
      exit(128 + NUMBERS[name]);
      return;
    }
    first = name;
    timer = setTimeout(() => {
      say(`The stop took longer than ${timeoutMs / 1_000} s (service.shutdown_timeout): ending now`);
      exit(128 + NUMBERS[name]);
    }, timeoutMs);
    stop.abort();
  };
  const listeners = (Object.keys(NUMBERS) as SignalName[]).map((name) => ({ name, listener: () => onSignal(name) }));
  for (const { name, listener } of listeners) source.on(name, listener);
  return {
    signal: stop.signal,
    get forcedCode() {
      return first === null ? null : 128 + NUMBERS[first];
    },
    onHangup(listener) {
      hangups.push(listener);
      source.on("SIGHUP", listener);
    },
    dispose() {
      clearTimeout(timer);
      for (const listener of hangups) source.off("SIGHUP", listener);
      for (const { name, listener } of listeners) source.off(name, listener);
    },
  };
}
