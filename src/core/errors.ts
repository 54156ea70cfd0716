/** Errors as an interface: every failure a person or a loop must decide about carries code, retry class and remedy. */

/** When trying the same thing again can help: at once, after a pause, or never without a change by a person. */
export type Retry = "now" | "backoff" | "never";

/** Whose fault it is; decides the exit code (interface §1). */
export type Fault = "internal" | "input" | "environment" | "finding";

export interface ErrorDetails {
  /** Dotted, stable: `broker.auth_failed`. */
  readonly code: string;
  /** Sentence case, no full stop; names the attempted action, quotes values, says found and expected. Never a secret. */
  readonly message: string;
  readonly retry: Retry;
  readonly fault: Fault;
  /** What to do about it: a command where there is one. */
  readonly remedy?: string | undefined;
  /** Facts as fields, for logs. */
  readonly facts?: Readonly<Record<string, string | number | boolean | null>> | undefined;
  readonly cause?: unknown;
}

/** The one error type that crosses a port. Adapters turn client errors into it at their edge. */
export class ReplicatorError extends Error {
  readonly code: string;
  readonly retry: Retry;
  readonly fault: Fault;
  readonly remedy: string | undefined;
  readonly facts: Readonly<Record<string, string | number | boolean | null>>;

  constructor(details: ErrorDetails) {
    super(details.message, { cause: details.cause });
    this.name = "ReplicatorError";
    this.code = details.code;
    this.retry = details.retry;
    this.fault = details.fault;
    this.remedy = details.remedy;
    this.facts = details.facts ?? {};
  }
}

/** Exit codes of the program (interface §1): 1 our fault, 2 the user's input, 3 the environment, 4 a finding. */
export function exitCode(error: unknown): number {
  if (!(error instanceof ReplicatorError)) return 1;
  switch (error.fault) {
    case "input":
      return 2;
    case "environment":
      return 3;
    case "finding":
      return 4;
    case "internal":
      return 1;
  }
}

/** What a person reads: message and remedy on one line each, never a stack. */
export function describeError(error: unknown): string {
  if (error instanceof ReplicatorError) return error.remedy ? `${error.message}\n  ${error.remedy}` : error.message;
  return error instanceof Error ? error.message : String(error);
}

/** An abort is not a failure: loops end quietly on it. */
export function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === "AbortError" || (error as { code?: unknown }).code === "ABORT_ERR");
}
