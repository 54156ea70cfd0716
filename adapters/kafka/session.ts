/**
 * One kafkajs client whose connections we can end at once. kafkajs itself waits for answers that never come when a broker
 * vanishes without a word (kafkajs #1783), so the sockets are ours and are destroyed from outside.
 */
import net from "node:net";
import tls from "node:tls";
import { Kafka, type KafkaConfig, type LogEntry, logLevel } from "kafkajs";
import type { Logger } from "../../src/core/logger.ts";
import { quietIdleTimers } from "./idle_timers.ts";
import type { KafkaContext } from "./options.ts";
import { askForUncommittedEnds } from "./uncommitted_ends.ts";

export interface KafkaSession {
  readonly kafka: Kafka;
  /** Ends every connection now; calls under way reject, new ones cannot connect. Safe to call twice. */
  destroy(): void;
}

const CONNECT_MS = 3_000;
const REQUEST_MS = 6_000;
const KEEP_ALIVE_MS = 15_000;

export function openSession(context: KafkaContext): KafkaSession {
  quietIdleTimers();
  askForUncommittedEnds();
  const sockets = new Set<net.Socket>();
  let destroyed = false;

  const socketFactory: KafkaConfig["socketFactory"] = ({ host, port, ssl, onConnect }) => {
    if (destroyed) throw new Error("The session has ended");
    const servername = net.isIP(host) === 0 ? { servername: host } : {};
    const socket = ssl
      ? tls.connect({ host, port, ...servername, ...ssl }, onConnect)
      : net.connect({ host, port }, onConnect);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    // kafkajs disconnects a dead connection once per request that fails, and each time leaves a listener on its socket.
    socket.setMaxListeners(0);
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    return socket;
  };

  const kafka = new Kafka({
    brokers: rotated(context.brokers),
    clientId: context.clientId,
    ...(context.ssl === undefined ? {} : { ssl: context.ssl === true ? true : tlsOptions(context.ssl) }),
    ...(context.sasl === undefined ? {} : { sasl: saslOptions(context.sasl) }),
    connectionTimeout: CONNECT_MS,
    authenticationTimeout: REQUEST_MS,
    requestTimeout: REQUEST_MS,
    enforceRequestTimeout: true,
    retry: { retries: 2, initialRetryTime: 100, maxRetryTime: 1_000 },
    socketFactory,
    logLevel: logLevel.WARN,
    logCreator: () => (entry) => forward(context.logger, entry),
  });

  return {
    kafka,
    destroy() {
      destroyed = true;
      // Without an error kafkajs would not reject the requests under way.
      for (const socket of sockets) socket.destroy(new Error("The session has ended"));
    },
  };
}

let sessions = 0;

/** kafkajs asks the first broker of its list first: one that is frozen must not be the first of every session. */
function rotated(brokers: readonly string[]): string[] {
  const first = sessions++ % brokers.length;
  return [...brokers.slice(first), ...brokers.slice(0, first)];
}

function tlsOptions(ssl: Exclude<KafkaContext["ssl"], true | undefined>): tls.ConnectionOptions {
  return {
    rejectUnauthorized: true,
    ...(ssl.ca === undefined ? {} : { ca: ssl.ca }),
    ...(ssl.cert === undefined ? {} : { cert: ssl.cert }),
    ...(ssl.key === undefined ? {} : { key: ssl.key }),
  };
}

function saslOptions(sasl: NonNullable<KafkaContext["sasl"]>): NonNullable<KafkaConfig["sasl"]> {
  const { username, password } = sasl;
  switch (sasl.mechanism) {
    case "plain":
      return { mechanism: "plain", username, password };
    case "scram-sha-256":
      return { mechanism: "scram-sha-256", username, password };
    case "scram-sha-512":
      return { mechanism: "scram-sha-512", username, password };
  }
}

/** Everything kafkajs says is a detail: what a person must know comes from our own error table. */
function forward(logger: Logger, entry: LogEntry): void {
  const { message, timestamp: _, stack: __, ...facts } = entry.log;
  logger.debug({ ...facts, namespace: entry.namespace }, `kafkajs: ${message}`);
}
