/** One table from SQLSTATE and client errors to ReplicatorError (style: errors as an interface). */
import { type Fault, isAbort, ReplicatorError, type Retry } from "../../src/core/errors.ts";

interface Row {
  readonly code: string;
  readonly retry: Retry;
  readonly fault: Fault;
  readonly remedy?: string;
}

const UNREACHABLE: Row = {
  code: "database.unreachable",
  retry: "backoff",
  fault: "environment",
  remedy: "Is PostgreSQL running, and is database.url (or host and port) its address?",
};
const BUSY: Row = { code: "database.busy", retry: "backoff", fault: "environment" };
const TLS: Row = {
  code: "database.tls_failed",
  retry: "never",
  fault: "environment",
  remedy: "Check database.sslmode, sslrootcert, sslcert and sslkey, and the name in the server's certificate",
};
const OBJECTS_MISSING: Row = {
  code: "database.objects_missing",
  retry: "never",
  fault: "environment",
  remedy: "Run: replicator setup",
};
const AUTH: Row = {
  code: "database.auth_failed",
  retry: "never",
  fault: "environment",
  remedy: "Check database.user and database.password, and pg_hba.conf of the server",
};

/** Exact SQLSTATEs first, then their class (first two characters). */
const BY_SQLSTATE: Readonly<Record<string, Row>> = {
  "42501": {
    code: "database.not_authorized",
    retry: "never",
    fault: "environment",
    remedy: "Grant what is missing: psql -f sql/05_roles.sql, then GRANT replicator_publisher or replicator_consumer",
  },
  "3D000": {
    code: "database.missing",
    retry: "never",
    fault: "environment",
    remedy: "Check database.url (or database.name), or create the database",
  },
  "25006": {
    code: "database.read_only",
    retry: "backoff",
    fault: "environment",
    remedy: "Point the configuration at the primary: this server accepts no writes",
  },
  // idle_in_transaction_session_timeout: the server gave up on us while we did not get to the next statement.
  "25P03": UNREACHABLE,
  "57014": { code: "database.timeout", retry: "backoff", fault: "environment" },
  "53300": BUSY,
};

const BY_CLASS: Readonly<Record<string, Row>> = {
  "08": UNREACHABLE,
  "28": AUTH,
  "40": { code: "database.serialization", retry: "backoff", fault: "environment" },
  "53": BUSY,
  "55": BUSY,
  "57": UNREACHABLE,
  "58": UNREACHABLE,
};

/** Errors of the client library and of the socket, by their `code`. */
const UNREACHABLE_CODES = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENETDOWN",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ENOENT",
  "EADDRNOTAVAIL",
  "ECONNABORTED",
  "FailedToOpenSocket",
  "ConnectionRefused",
  "ERR_SOCKET_CLOSED",
  "DNS_ENOTFOUND",
]);

/** Undefined table, schema, function, column, sequence and the like. */
const MISSING = new Set(["42P01", "3F000", "42883", "42703", "42704"]);

/** What PostgreSQL says about an error; present on errors that came from the server. */
export interface ServerError extends Error {
  readonly code: string;
  readonly detail?: string;
  readonly constraint_name?: string;
  readonly table_name?: string;
  readonly schema_name?: string;
  readonly column_name?: string;
}

export function isServerError(error: unknown): error is ServerError {
  return (
    error instanceof Error && error.name === "PostgresError" && typeof (error as { code?: unknown }).code === "string"
  );
}

/** The SQLSTATE behind an error of this adapter, looking through ReplicatorError causes; null when there is none. */
export function sqlState(error: unknown): string | null {
  if (isServerError(error)) return error.code;
  if (error instanceof ReplicatorError) return sqlState(error.cause);
  return null;
}

/**
 * Turns whatever a query or a connection attempt threw into a ReplicatorError. `action` reads after "Cannot":
 * "take a cut"; `schema` is the one whose missing objects `replicator setup` mends. Aborts and ReplicatorErrors pass through. The cause carries no query and no parameters.
 */
export function databaseError(error: unknown, action: string, schema = "replicator"): Error {
  if (error instanceof ReplicatorError) return error;
  if (error instanceof Error && isAbort(error)) return error;
  const found = classify(error, schema);
  const reason = error instanceof Error ? error.message : String(error);
  return new ReplicatorError({
    code: found.code,
    message: `Cannot ${action}: ${reason}`,
    retry: found.retry,
    fault: found.fault,
    remedy: found.remedy,
    facts: facts(error),
    cause: redact(error),
  });
}

function classify(error: unknown, schema: string): Row {
  if (isServerError(error)) {
    // Missing objects are a matter of setup only when they are ours: a user's own table gone is the caller's to judge.
    if (MISSING.has(error.code) && namesSchema(error.message, schema)) return OBJECTS_MISSING;
    return (
      BY_SQLSTATE[error.code] ??
      BY_CLASS[error.code.slice(0, 2)] ?? { code: "database.query_failed", retry: "never", fault: "internal" }
    );
  }
  const code = codeOf(error);
  if (isTlsCode(code)) return TLS;
  if (UNREACHABLE_CODES.has(code)) return UNREACHABLE;
  if (code === "SASL_SIGNATURE_MISMATCH") return AUTH;
  return { code: "database.client_failed", retry: "backoff", fault: "internal" };
}

function namesSchema(message: string, schema: string): boolean {
  return message.includes(`${schema}.`) || message.includes(`"${schema}"`);
}

function isTlsCode(code: string): boolean {
  return /CERT|SSL|TLS|UNABLE_TO_|HOSTNAME_MISMATCH|ALTNAME/.test(code);
}

function codeOf(error: unknown): string {
  const code = typeof error === "object" && error !== null ? (error as { code?: unknown }).code : undefined;
  return typeof code === "string" ? code : "";
}

function facts(error: unknown): Record<string, string> {
  const found: Record<string, string> = {};
  const code = codeOf(error);
  if (code) found[isServerError(error) ? "sqlstate" : "error_code"] = code;
  if (isServerError(error)) {
    if (error.schema_name) found.schema = error.schema_name;
    if (error.table_name) found.table = error.table_name;
    if (error.constraint_name) found.constraint = error.constraint_name;
  }
  return found;
}

/**
 * A copy without query text, parameters and row values: porsager's errors carry the parameters, and `detail` and `where`
 * quote rows (traps page).
 */
function redact(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  const copy = new Error(error.message);
  copy.name = error.name;
  const kept = [
    "code",
    "severity",
    "constraint_name",
    "table_name",
    "schema_name",
    "column_name",
    "routine",
    "hint",
  ] as const;
  for (const field of kept) {
    const value: unknown = Reflect.get(error, field);
    if (typeof value === "string") Object.defineProperty(copy, field, { value, enumerable: true });
  }
  return copy;
}
