/**
 * Where a contour's log is read: its stream, where that lives in our cluster or nobody says where it lives; else the
 * mirror of it in our cluster, and the stream itself through the gateway while the mirror stands still.
 */
import type { JetStreamManager, StreamInfo } from "@nats-io/jetstream";
import { errors as nats } from "@nats-io/nats-core";
import type { NatsLink } from "./connection.ts";
import { apiCode, isUnanswered, natsError } from "./errors.ts";
import { foreignCluster, type Home } from "./home.ts";
import { ensureMirror, mirroredIdentity, mirrorName, serves } from "./mirror.ts";
import type { NatsOptions } from "./options.ts";
import { findStream, streamIdentity } from "./stream.ts";

export interface SourceLog {
  /** What is read: the contour's stream or our mirror of it. */
  readonly info: StreamInfo;
  /** Of the contour's stream: what positions count in. */
  readonly identity: string;
  /** Greatest sequence the log may have; Infinity while the contour's stream cannot be asked. */
  readonly lastSequence: number;
  /** The contour's stream lives in another cluster: which of the two is read may change at any time. */
  readonly remote: boolean;
}

/** One for a broker: it remembers what it has said. */
export class SourceLogs {
  readonly #link: NatsLink;
  readonly #options: NatsOptions;
  readonly #said = new Map<string, string>();

  constructor(link: NatsLink, options: NatsOptions) {
    this.#link = link;
    this.#options = options;
  }

  /**
   * Null when the contour's stream does not exist. Makes or mends the mirror where one is needed.
   * @param stream of the contour
   * @param next first sequence that is wanted
   * @throws AbortError, the client's errors, ReplicatorError
   */
  async find(stream: string, next: number, signal: AbortSignal): Promise<SourceLog | null> {
    return this.#link.api(signal, (manager) => this.#find(manager, stream, next));
  }

  async #find(manager: JetStreamManager, stream: string, next: number): Promise<SourceLog | null> {
    const { home } = this.#link;
    let origin: StreamInfo | null;
    try {
      origin = await findStream(manager, stream);
    } catch (error) {
      const cutOff = home && isCutOff(error) ? await this.#withoutOrigin(manager, stream, home) : null;
      if (!cutOff) throw error;
      return cutOff;
    }
    if (!origin) return null;
    const direct = { info: origin, identity: streamIdentity(origin), lastSequence: origin.state.last_seq };
    const cluster = foreignCluster(origin, home);
    if (!home || cluster === null) return { ...direct, remote: false };
    const mirror = await this.#mirror(manager, origin, home, next);
    if (!mirror || !serves(mirror, origin, next)) {
      if (mirror) this.#say(stream, `The NATS mirror "${mirror.config.name}" stands still; reading from its origin`);
      return { ...direct, remote: true };
    }
    this.#say(stream, `Reading "${stream}" of the NATS cluster "${cluster}" from the mirror "${mirror.config.name}"`);
    return { ...direct, info: mirror, remote: true };
  }

  /** Null while none can be read: the stream itself is read then. */
  async #mirror(manager: JetStreamManager, origin: StreamInfo, home: Home, next: number): Promise<StreamInfo | null> {
    try {
      return await ensureMirror(manager, this.#options, { origin, home, next });
    } catch (error) {
      const { code, message, remedy } = natsError(`make the mirror of "${origin.config.name}"`, error);
      this.#say(origin.config.name, `${message}; reading from its origin`, { code, remedy });
      return null;
    }
  }

  async #withoutOrigin(manager: JetStreamManager, stream: string, home: Home): Promise<SourceLog | null> {
    const info = await findStream(manager, mirrorName(stream, home.cluster));
    const identity = info && mirroredIdentity(info);
    if (!info || !identity) return null;
    this.#say(stream, `The NATS stream "${stream}" does not answer; reading what its mirror has`);
    return { info, identity, lastSequence: Number.POSITIVE_INFINITY, remote: true };
  }

  /** Once, until something else is true of the stream. */
  #say(stream: string, message: string, facts: object = {}): void {
    if (this.#said.get(stream) === message) return;
    this.#said.set(stream, message);
    this.#options.logger.info({ stream, ...facts }, message);
  }
}

/** Nobody who knows the stream can be asked: its cluster is cut off, or has lost its majority. */
export function isCutOff(error: unknown): boolean {
  const code = apiCode(error);
  return (
    code === 10008 ||
    code === 10009 ||
    code === 10118 ||
    error instanceof nats.TimeoutError ||
    error instanceof nats.RequestError ||
    error instanceof nats.NoRespondersError ||
    isUnanswered(error)
  );
}
