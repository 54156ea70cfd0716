/**
 * Opens the socket a PostgreSQL connection runs on, TLS included. porsager's own TLS does not verify the server with
 * `require` and knows no verify-ca (traps page), so that part is ours.
 */
import { readFile } from "node:fs/promises";
import net from "node:net";
import tls from "node:tls";
import { ReplicatorError } from "../../src/core/errors.ts";
import type { Address, SslOptions } from "./address.ts";

/** Length 8, request code 80877103 (PostgreSQL protocol, SSLRequest). */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
const SSL_ACCEPTED = 83;

/**
 * A connected socket, through TLS as the address's sslmode asks. Rejects with the socket's error, or with ReplicatorError
 * `database.tls_failed`; `signal` ends the attempt.
 */
export async function openSocket(address: Address, signal: AbortSignal): Promise<net.Socket> {
  const plain = await connect(address, signal);
  const unixSocket = address.host.startsWith("/");
  if (address.ssl.mode === "disable" || unixSocket) return plain;
  try {
    const answer = await askForTls(plain, signal);
    if (answer === SSL_ACCEPTED) return await startTls(plain, address, signal);
    if (address.ssl.mode === "prefer") return plain;
    throw tlsFailed(address, "the server does not offer TLS");
  } catch (error) {
    plain.destroy();
    throw error;
  }
}

function connect(address: Address, signal: AbortSignal): Promise<net.Socket> {
  const socket = new net.Socket();
  const done = once<net.Socket>(socket, signal, (resolve) => socket.once("connect", () => resolve(socket)));
  if (address.host.startsWith("/")) socket.connect(`${address.host}/.s.PGSQL.${address.port}`);
  else socket.connect(address.port, address.host);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 10_000);
  return done;
}

function askForTls(socket: net.Socket, signal: AbortSignal): Promise<number> {
  const done = once<number>(socket, signal, (resolve, reject) =>
    socket.once("data", (answer: Buffer) => {
      // More than one byte before TLS began was put there by somebody in between (CVE-2021-23222).
      if (answer.length === 1) resolve(answer.readUInt8(0));
      else reject(Object.assign(new Error("what answers there is no PostgreSQL server"), { code: "BAD_TLS_ANSWER" }));
    }),
  );
  socket.write(SSL_REQUEST);
  return done;
}

async function startTls(plain: net.Socket, address: Address, signal: AbortSignal): Promise<net.Socket> {
  const { mode, ca, cert, key } = address.ssl;
  const verifies = mode === "verify-ca" || mode === "verify-full" || (mode === "require" && ca !== undefined);
  const options: tls.ConnectionOptions = {
    socket: plain,
    host: address.host,
    rejectUnauthorized: verifies,
    ...(await readCredentials({ ca, cert, key })),
  };
  if (net.isIP(address.host) === 0) options.servername = address.host;
  // verify-ca: signed by the CA is enough, the name is not compared.
  if (mode !== "verify-full") options.checkServerIdentity = () => undefined;
  const socket = tls.connect(options);
  try {
    return await once<net.Socket>(socket, signal, (resolve) => socket.once("secureConnect", () => resolve(socket)));
  } catch (error) {
    socket.destroy();
    if (signal.aborted || isNetworkFailure(error)) throw error;
    throw tlsFailed(address, error instanceof Error ? error.message : String(error), error);
  }
}

/** A connection that broke during the handshake says nothing about certificates: it is tried again. */
function isNetworkFailure(error: unknown): boolean {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  return code === "ECONNRESET" || code === "EPIPE" || code === "ETIMEDOUT";
}

async function readCredentials(ssl: SslOptions): Promise<{ ca?: string; cert?: string; key?: string }> {
  const found: { ca?: string; cert?: string; key?: string } = {};
  for (const name of ["ca", "cert", "key"] as const) {
    const value = ssl[name];
    if (value === undefined || (name === "ca" && value === "system")) continue;
    found[name] = value.includes("-----BEGIN") ? value : await readPem(value, name);
  }
  return found;
}

async function readPem(path: string, name: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new ReplicatorError({
      code: "database.tls_failed",
      message: `Cannot read the ${name} file "${path}" for the database connection`,
      retry: "never",
      fault: "environment",
      remedy: "Check database.sslrootcert, sslcert and sslkey",
      cause,
    });
  }
}

function tlsFailed(address: Address, reason: string, cause?: unknown): ReplicatorError {
  return new ReplicatorError({
    code: "database.tls_failed",
    message: `Cannot connect to ${address.label} with sslmode "${address.ssl.mode}": ${reason}`,
    retry: "never",
    fault: "environment",
    remedy: "Check database.sslmode, sslrootcert, sslcert and sslkey, and the name in the server's certificate",
    cause,
  });
}

/** One event of a socket as a promise; an error, a close or the signal rejects it. Leaves no listener behind. */
function once<T>(
  socket: net.Socket,
  signal: AbortSignal,
  listen: (resolve: (value: T) => void, reject: (error: unknown) => void) => void,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const onError = (error: Error) => finish(() => reject(error));
    const onClose = () => onError(Object.assign(new Error("the server closed the connection"), { code: "ECONNRESET" }));
    const onAbort = () => {
      finish(() => reject(signal.reason));
      socket.destroy();
    };
    const finish = (act: () => void) => {
      socket.off("error", onError);
      socket.off("close", onClose);
      signal.removeEventListener("abort", onAbort);
      // A destroyed socket may still emit an error; nobody is interested any more.
      socket.on("error", ignore);
      act();
    };
    socket.on("error", onError);
    socket.on("close", onClose);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) return onAbort();
    listen(
      (value) => finish(() => resolve(value)),
      (error) => finish(() => reject(error)),
    );
  });
}

function ignore(): void {
  // The failure was reported through the promise already.
}
