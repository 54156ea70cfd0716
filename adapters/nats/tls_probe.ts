/**
 * Finds out whether a server refuses our client certificate. With TLS 1.3 it does so after the client's side of the
 * handshake is done; the NATS client drops that error and only times out.
 */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { NatsTls } from "./options.ts";

const PROBE_MS = 2_000;

/** The server's alert; null when it sent none, or could not be reached. Never rejects. */
export function refusedCertificate(server: string, tls: NatsTls): Promise<Error | null> {
  const { hostname, port } = new URL(server.includes("://") ? server.replace(/^[a-z]+:/, "http:") : `http://${server}`);
  const host = hostname.replace(/^\[|\]$/g, "");
  return new Promise((resolve) => {
    const socket = connectTcp(Number(port || 4222), host);
    let current: Socket = socket;
    const finish = (alert: Error | null) => {
      clearTimeout(timer);
      current.destroy();
      resolve(alert);
    };
    const timer = setTimeout(() => finish(null), PROBE_MS);
    socket.once("error", () => finish(null));
    // The server speaks first, in the clear: INFO {…}
    socket.once("data", (info) => {
      if (!info.toString("latin1").includes('"tls_verify":true')) return finish(null);
      socket.removeAllListeners();
      const { ca, cert, key } = tls;
      const secured = connectTls(
        { socket, servername: host, ...(ca ? { ca } : {}), ...(cert ? { cert } : {}), ...(key ? { key } : {}) },
        () => secured.write("PING\r\n"),
      );
      current = secured;
      secured.once("error", (error: Error & { code?: unknown }) =>
        finish(/ALERT/.test(String(error.code)) ? error : null),
      );
      // It answers: our certificate was taken.
      secured.once("data", () => finish(null));
      secured.once("close", () => finish(null));
    });
  });
}
