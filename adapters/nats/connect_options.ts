/** What the NATS client is told: credentials, TLS, and to go on for ever. */
import { readFile } from "node:fs/promises";
import { credsAuthenticator, nkeyAuthenticator } from "@nats-io/nats-core";
import type { NodeConnectionOptions } from "@nats-io/transport-node";
import { ReplicatorError } from "../../src/core/errors.ts";
import type { NatsOptions } from "./options.ts";

/** How long one attempt to connect may take. */
const CONNECT_TIMEOUT_MS = 5_000;
/** A silent server is noticed after three missed pings. */
const PING_INTERVAL_MS = 10_000;

/**
 * @param reconnectDelay milliseconds to the next attempt
 * @throws ReplicatorError when the credentials file cannot be read
 */
export async function connectOptions(given: NatsOptions, reconnectDelay: () => number): Promise<NodeConnectionOptions> {
  const { user, password, token, nkey, credentialsFile, tls, name } = given;
  const inAddress = given.servers.map(credentialsOf).find((found) => found !== null);
  const options: NodeConnectionOptions = {
    servers: given.servers.map(withoutCredentials),
    name: name ?? "replicator",
    timeout: CONNECT_TIMEOUT_MS,
    maxReconnectAttempts: -1,
    reconnectDelayHandler: reconnectDelay,
    pingInterval: PING_INTERVAL_MS,
    maxPingOut: 2,
    noAsyncTraces: true,
  };
  if (user !== undefined) Object.assign(options, { user, pass: password ?? "" });
  else if (token !== undefined) options.token = token;
  else if (nkey !== undefined) options.authenticator = nkeyAuthenticator(new TextEncoder().encode(nkey.trim()));
  else if (credentialsFile !== undefined)
    options.authenticator = credsAuthenticator(await readCredentials(credentialsFile));
  else if (inAddress) Object.assign(options, inAddress);
  if (tls !== undefined || given.servers.some((server) => server.startsWith("tls://"))) {
    const { ca, cert, key } = tls ?? {};
    options.tls = { ...(ca ? { ca } : {}), ...(cert ? { cert } : {}), ...(key ? { key } : {}) };
  }
  return options;
}

async function readCredentials(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new ReplicatorError({
      code: "broker.auth_failed",
      message: `Cannot read the NATS credentials file "${path}": ${error instanceof Error ? error.message : error}`,
      retry: "never",
      fault: "input",
      remedy: "Let nats.credentials_file name a file this process may read (nsc generate creds)",
      cause: error,
    });
  }
}

const ADDRESS = /^(?<scheme>[a-z]+:\/\/)?(?:(?<credentials>.*)@)?(?<host>[^@]*)$/;

/** An address as a person may see it. */
export function withoutCredentials(server: string): string {
  const parts = ADDRESS.exec(server)?.groups;
  return parts ? `${parts.scheme ?? ""}${parts.host}` : server;
}

function credentialsOf(server: string): { user: string; pass: string } | { token: string } | null {
  const credentials = ADDRESS.exec(server)?.groups?.credentials;
  if (!credentials) return null;
  const colon = credentials.indexOf(":");
  if (colon < 0) return { token: decoded(credentials) };
  return {
    user: decoded(credentials.slice(0, colon)),
    pass: decoded(credentials.slice(colon + 1)),
  };
}

/** A password with a bare `%` was meant as it stands. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    if (error instanceof URIError) return text;
    throw error;
  }
}
