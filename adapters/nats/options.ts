/** What the NATS adapter needs to know; the composition root fills it from the configuration's `nats:` block. */
import type { Clock } from "../../src/core/clock.ts";
import type { Logger } from "../../src/core/logger.ts";

/** PEM text each, not paths. An empty object means: TLS with the system's certificate authorities. */
export interface NatsTls {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

export interface NatsOptions {
  /** `nats://host:port` or `tls://host:port`; credentials in the address are used when `user` is not set. */
  readonly servers: readonly string[];
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  readonly token?: string | undefined;
  /** The seed of an nkey (`SU…`). */
  readonly nkey?: string | undefined;
  /** Path of a `.creds` file; read anew at each connection, so that it may be renewed. */
  readonly credentialsFile?: string | undefined;
  /** Set: the connection must be encrypted, and the server is verified. */
  readonly tls?: NatsTls | undefined;
  /** Of this site: its stream belongs into the cluster we are connected to, the others' are mirrored there. `check` asks. */
  readonly contour?: string | undefined;
  /** Prefix of the stream names: `<stream>_<contour>`. */
  readonly stream?: string | undefined;
  /** Copies of a stream; unset: 3 in a cluster of three servers or more, else 1. */
  readonly replicas?: number | undefined;
  /** JetStream domain, when it has one. */
  readonly domain?: string | undefined;
  /** How long a stream keeps its messages. */
  readonly retentionMs: number;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Bytes held at most per claim, and in flight per publisher (I11). At least one message of the server's largest size always fits. */
  readonly bufferBytes: number;
  /** Shown in the server's list of connections. */
  readonly name?: string | undefined;
}

export const DEFAULT_STREAM = "replicator";
