/** One table from what the NATS client and server say to ReplicatorError: code, retry class, remedy. */

import { JetStreamApiError } from "@nats-io/jetstream";
import { errors as nats } from "@nats-io/nats-core";
import { type ErrorDetails, ReplicatorError } from "../../src/core/errors.ts";

type Entry = Pick<ErrorDetails, "code" | "retry" | "remedy">;

/** Numbers of the server's errors.json that a person or a loop must tell apart. */
const API: Readonly<Record<number, Entry>> = {
  10005: replicasEntry("backoff"),
  10074: replicasEntry("never"),
  10023: storageEntry(),
  10028: storageEntry(),
  10047: storageEntry(),
  10077: storageEntry(),
  10002: storageEntry(),
  10008: unavailableEntry(),
  10009: unavailableEntry(),
  10022: unavailableEntry(),
  10167: {
    code: "broker.overloaded",
    retry: "backoff",
    remedy: "The NATS server refuses more messages for the moment; it is retried",
  },
  10054: tooLargeEntry(),
  10059: {
    code: "broker.no_stream",
    retry: "backoff",
    remedy: "The stream is made when a publisher of its contour starts",
  },
  10039: noJetStreamEntry(),
  10076: noJetStreamEntry(),
  10065: {
    code: "broker.subject_overlap",
    retry: "never",
    remedy:
      "Another stream takes in these subjects: remove them there (nats stream edit), or point nats.stream at the prefix of that stream's name",
  },
  10058: {
    code: "broker.stream_differs",
    retry: "never",
    remedy: "Compare the stream with the configuration: nats stream info",
  },
};

function replicasEntry(retry: "backoff" | "never"): Entry {
  return {
    code: "broker.insufficient_replicas",
    retry,
    remedy:
      "nats.replicas: ask for no more copies than there are NATS servers with JetStream in the cluster (1 for a single server)",
  };
}
function storageEntry(): Entry {
  return {
    code: "broker.storage_full",
    retry: "backoff",
    remedy:
      "Give JetStream more storage (max_file_store, the account's limits or the stream's max_bytes), or shorten the retention: nats stream edit",
  };
}
function unavailableEntry(): Entry {
  return {
    code: "broker.unavailable",
    retry: "backoff",
    remedy:
      "JetStream has no leader at the moment: see that a majority of the NATS servers is up (nats server report jetstream)",
  };
}
function noJetStreamEntry(): Entry {
  return {
    code: "broker.no_jetstream",
    retry: "never",
    remedy:
      "Enable JetStream: start nats-server with -js, and for the account of nats.user put `jetstream: enabled`; with a domain set nats.domain",
  };
}
export function tooLargeEntry(): Entry {
  return {
    code: "broker.message_too_large",
    retry: "never",
    remedy: "Set max_payload of every nats-server, and max_msg_size of the stream, to 1MB at least",
  };
}

/**
 * Turns whatever the client threw into a ReplicatorError.
 * @param action what was attempted, as it stands in "Cannot …"
 */
export function natsError(action: string, error: unknown, facts: ErrorDetails["facts"] = {}): ReplicatorError {
  if (error instanceof ReplicatorError) return error;
  const root = rootCause(error);
  const entry = entryFor(root) ??
    entryFor(error) ?? {
      code: "broker.unreachable",
      retry: "backoff" as const,
      remedy: "See that nats.servers names running NATS servers and that the network lets this host through",
    };
  return new ReplicatorError({
    ...entry,
    message: `Cannot ${action}: ${explain(root)}`,
    fault: "environment",
    facts,
    cause: error,
  });
}

/** The error of an answer of the server (`{"error": {code, err_code, description}}`). */
export function apiError(
  action: string,
  answer: { readonly err_code?: number; readonly code?: number; readonly description?: string },
): ReplicatorError {
  const entry = apiEntry(answer.err_code ?? 0, answer.code ?? 0);
  return new ReplicatorError({
    ...entry,
    message: `Cannot ${action}: the NATS server answered ${answer.err_code ?? answer.code ?? "?"} "${answer.description ?? "no reason given"}"`,
    fault: "environment",
    facts: { err_code: answer.err_code ?? null },
  });
}

export function apiCode(error: unknown): number | null {
  if (error instanceof JetStreamApiError) return error.code;
  if (error instanceof ReplicatorError && error.cause !== undefined) return apiCode(error.cause);
  return null;
}

/** Whether the client threw because no server takes requests of the JetStream API. (It does not export the class.) */
export function isUnanswered(error: unknown): boolean {
  return error instanceof Error && error.name === "JetStreamNotEnabled" && !(error.cause instanceof JetStreamApiError);
}

export function noJetStream(): ReplicatorError {
  return new ReplicatorError({
    ...noJetStreamEntry(),
    message: "Cannot use JetStream: this NATS server runs without it",
    fault: "environment",
  });
}

export const NOT_FOUND = { stream: 10059, consumer: 10014, message: 10037 } as const;

export function closedError(): ReplicatorError {
  return new ReplicatorError({
    code: "broker.closed",
    message: "Cannot use the NATS connection: it was closed by this process",
    retry: "never",
    fault: "internal",
  });
}

function apiEntry(errCode: number, status: number): Entry {
  const known = API[errCode];
  if (known) return known;
  // 503 of a kind we do not know by number is the cluster saying "not now".
  if (status === 503 || status === 500) return unavailableEntry();
  return { code: "broker.refused", retry: "never", remedy: "The NATS server refuses this request; see its log" };
}

function entryFor(error: unknown): Entry | null {
  if (error instanceof JetStreamApiError) return apiEntry(error.code, error.status);
  // Nobody answers the JetStream API: the servers that would are down or cut off, or JetStream is off everywhere.
  if (isUnanswered(error)) return { ...noJetStreamEntry(), retry: "backoff" };
  if (error instanceof nats.AuthorizationError || error instanceof nats.UserAuthenticationExpiredError) {
    // A frozen or overloaded server ends the handshake with "authentication timeout": nothing was refused.
    return /timeout/i.test(error.message) ? null : authEntry();
  }
  if (error instanceof nats.PermissionViolationError) {
    return {
      code: "broker.not_authorized",
      retry: "never",
      remedy: `Grant the user of nats.user the right to ${error.operation === "publish" ? "publish to" : "subscribe to"} "${error.subject}"`,
    };
  }
  if (error instanceof Error && isTlsError(error)) {
    return {
      code: "broker.tls_failed",
      retry: "never",
      remedy:
        "nats.tls.ca must hold the authority that signed the server's certificate, which must name the host in nats.servers; nats.tls.cert and nats.tls.key are needed where the server verifies clients",
    };
  }
  return null;
}

export function authEntry(): Entry {
  return {
    code: "broker.auth_failed",
    retry: "never",
    remedy: "Correct nats.user and nats.password (or nats.token, nats.nkey, nats.credentials_file)",
  };
}

const TLS_CODES =
  /^(ERR_TLS|ERR_SSL|ERR_OSSL|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|CRL_|ERR_BORINGSSL|EPROTO$)/;

function isTlsError(error: Error): boolean {
  const code: unknown = "code" in error ? error.code : undefined;
  // A connection that breaks or stalls in the handshake may be the network: waiting can help.
  if (typeof code === "string" && /^(ECONN|ETIMEDOUT|EPIPE|ERR_TLS_HANDSHAKE_TIMEOUT)/.test(code)) return false;
  if (typeof code === "string" && TLS_CODES.test(code)) return true;
  return /\b(tls|ssl|certificate|self.signed|PEM|handshake)\b/i.test(error.message);
}

function rootCause(error: unknown): unknown {
  let root = error;
  while (root instanceof Error && root.cause instanceof Error && !(root instanceof JetStreamApiError))
    root = root.cause;
  return root;
}

function explain(error: unknown): string {
  if (error instanceof nats.AuthorizationError) return "the NATS server refused the credentials";
  if (error instanceof nats.TimeoutError) return "the NATS server did not answer in time";
  if (error instanceof nats.NoRespondersError) return "no NATS server takes this request";
  if (error instanceof Error) return error.message || error.name;
  return error === undefined ? "the connection was closed" : String(error);
}
