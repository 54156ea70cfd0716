/**
 * The one connection of a broker: made on first use, remade for ever, with one line in the log when it is lost and one
 * when it is back. The client's own reconnecting does the work (its default of ten attempts, and closing for good after
 * them, is switched off); what it gives up on all the same, refused credentials, ends here as a ReplicatorError.
 */
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { type NatsConnection, errors as nats } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { Backoff } from "../../src/core/backoff.ts";
import type { ReplicatorError } from "../../src/core/errors.ts";
import { connectOptions, withoutCredentials } from "./connect_options.ts";
import { closedError, isUnanswered, natsError, noJetStream } from "./errors.ts";
import { type Home, homeOf } from "./home.ts";
import type { NatsOptions } from "./options.ts";
import { refusedCertificate } from "./tls_probe.ts";
import { Pulse, untilAborted } from "./waits.ts";

/** How long one request to the JetStream API may take. */
const API_TIMEOUT_MS = 5_000;
/** An answer to a ping that takes longer than this does not come. */
const SILENCE_MS = 1_500;

export type LinkEvent =
  | { readonly type: "down" }
  | { readonly type: "up" }
  | { readonly type: "error"; readonly error: Error };

export class NatsLink {
  readonly #options: NatsOptions;
  readonly #servers: readonly string[];
  readonly #backoff = new Backoff({ firstMs: 100, maxMs: 2_000 });
  readonly #stop = new AbortController();
  readonly #changed = new Pulse();
  readonly #listeners = new Set<(event: LinkEvent) => void>();
  readonly #managers = new WeakMap<NatsConnection, Promise<JetStreamManager>>();
  #nc: NatsConnection | null = null;
  #up = false;
  #connecting: Promise<void> | null = null;
  #lastError: ReplicatorError | null = null;
  #complained = false;
  #suspecting: Promise<void> | null = null;

  constructor(options: NatsOptions) {
    this.#options = options;
    this.#servers = options.servers.map(withoutCredentials);
  }

  /** The servers as a person may see them: no credentials. */
  get servers(): string {
    return this.#servers.join(", ");
  }

  get closed(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Aborted by close(). */
  get closing(): AbortSignal {
    return this.#stop.signal;
  }

  /** Why the last attempt to connect failed; null while connected. */
  get lastError(): ReplicatorError | null {
    return this.#lastError;
  }

  /** `$JS.API`, or that of the domain. */
  get apiPrefix(): string {
    return this.#options.domain ? `$JS.${this.#options.domain}.API` : "$JS.API";
  }

  /** The connection if it stands at this moment. */
  get current(): NatsConnection | null {
    return this.#up ? this.#nc : null;
  }

  /** The cluster we are connected to, as far as streams can be placed in it; null outside a cluster. */
  get home(): Home | null {
    return homeOf(this.current?.info, this.#options.domain);
  }

  /** Waits for ever until connected. @throws AbortError by the signal, ReplicatorError when waiting cannot help. */
  async connection(signal: AbortSignal): Promise<NatsConnection> {
    for (;;) {
      if (this.closed) throw closedError();
      const standing = this.current;
      if (standing) return standing;
      if (this.#nc) await untilAborted(this.#changed.wait(), signal);
      else {
        this.#connecting ??= this.#connect().finally(() => {
          this.#connecting = null;
        });
        await untilAborted(this.#connecting, signal);
      }
    }
  }

  /**
   * A call of the JetStream API. Ends at once when the signal aborts or the connection is lost: the client itself would
   * wait for its own timeout. What the call had begun may still happen on the server.
   * @throws AbortError, ReplicatorError of connection(), or the client's errors
   */
  async api<T>(signal: AbortSignal, call: (manager: JetStreamManager) => Promise<T>): Promise<T> {
    const nc = await this.connection(signal);
    let manager = this.#managers.get(nc);
    if (!manager) {
      const domain = this.#options.domain;
      manager = jetstreamManager(nc, { checkAPI: false, timeout: API_TIMEOUT_MS, ...(domain ? { domain } : {}) });
      this.#managers.set(nc, manager);
    }
    let unlisten: (() => void) | undefined;
    const lost = new Promise<never>((_, reject) => {
      unlisten = this.listen((event) => {
        if (event.type === "down") reject(new nats.ConnectionError("the connection was lost before the answer came"));
      });
    });
    try {
      return await untilAborted(Promise.race([manager.then(call), lost]), signal);
    } catch (error) {
      // Outside a cluster nobody else could answer later: that is a server started without JetStream.
      if (isUnanswered(error) && nc.info && !nc.info.jetstream && !nc.info.cluster && !this.#options.domain)
        throw noJetStream();
      throw error;
    } finally {
      unlisten?.();
    }
  }

  /** Calls the listener at every change; returns how to stop it. */
  listen(listener: (event: LinkEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * For one who got no answer: asks the server whether it is there at all, and drops the connection when it is not.
   * Sooner than the pings would notice, and what is queued in the connection is freed (I11). Returns at once.
   */
  suspect(reason: string): void {
    const nc = this.current;
    if (!nc || this.closed || this.#suspecting) return;
    this.#suspecting = this.#dropIfSilent(nc, reason).finally(() => {
      this.#suspecting = null;
    });
  }

  async #dropIfSilent(nc: NatsConnection, reason: string): Promise<void> {
    const { clock, logger } = this.#options;
    const answer = nc.flush().then(
      () => true,
      () => true, // the client has noticed the loss itself
    );
    if (await Promise.race([answer, clock.sleep(SILENCE_MS, this.closing).then(() => false)])) return;
    if (this.current !== nc) return;
    if (!this.#complained) {
      logger.warn(
        { code: "broker.unreachable", servers: this.servers, reason },
        "The NATS server does not answer; connecting anew until it does",
      );
    }
    this.#complained = true;
    this.#lastError = natsError(
      `reach NATS at ${this.servers}`,
      new nats.ConnectionError("the server does not answer"),
    );
    this.#down();
    await nc.reconnect().catch((error) => logger.debug({ error }, "The NATS connection was closed meanwhile"));
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.#stop.abort();
    const nc = this.#nc;
    this.#nc = null;
    this.#down();
    if (!nc) return;
    // The client's close waits for the transport: not for longer than a second.
    await Promise.race([nc.close(), this.#options.clock.sleep(1_000)]);
  }

  async #connect(): Promise<void> {
    for (;;) {
      if (this.closed) throw closedError();
      try {
        const nc = await connect(await connectOptions(this.#options, () => this.#backoff.next()));
        if (this.closed) {
          await nc.close();
          throw closedError();
        }
        this.#adopt(nc);
        return;
      } catch (error) {
        const failure = natsError(`connect to NATS at ${this.servers}`, (await this.#alert(error)) ?? error);
        this.#lastError = failure;
        if (failure.retry === "never") throw failure;
        this.#complain(failure);
        await this.#options.clock.sleep(this.#backoff.next(), this.closing);
      }
    }
  }

  /** What a time-out while connecting hides, see tls_probe.ts. */
  async #alert(error: unknown): Promise<Error | null> {
    const { tls } = this.#options;
    const server = this.#servers[0];
    return tls && server && error instanceof nats.TimeoutError ? refusedCertificate(server, tls) : null;
  }

  #adopt(nc: NatsConnection): void {
    this.#nc = nc;
    this.#standing();
    this.#watch(nc).catch((error) => this.#options.logger.warn({ error }, "Lost sight of the NATS connection's state"));
    void nc.closed().then((reason) => this.#gaveUp(nc, reason));
  }

  /** The client closed the connection for good (refused credentials on reconnect): the next use tries once more and says why. */
  #gaveUp(nc: NatsConnection, reason: unknown): void {
    if (this.#nc !== nc) return;
    this.#nc = null;
    this.#lastError = natsError(`stay connected to NATS at ${this.servers}`, reason);
    this.#down();
  }

  async #watch(nc: NatsConnection): Promise<void> {
    for await (const status of nc.status()) {
      if (this.#nc !== nc) return;
      if (status.type === "disconnect") {
        this.#lastError = natsError(
          `reach NATS at ${this.servers}`,
          new nats.ConnectionError("the connection was lost"),
        );
        this.#complain(null);
        this.#down();
      } else if (status.type === "reconnect") this.#standing();
      else if (status.type === "error") this.#emit({ type: "error", error: status.error });
    }
  }

  #standing(): void {
    this.#up = true;
    this.#lastError = null;
    this.#backoff.reset();
    if (this.#complained) this.#options.logger.info({ servers: this.servers }, "Connected to NATS again");
    this.#complained = false;
    this.#emit({ type: "up" });
    this.#changed.wake();
  }

  #down(): void {
    this.#up = false;
    this.#emit({ type: "down" });
    this.#changed.wake();
  }

  #complain(failure: ReplicatorError | null): void {
    if (this.#complained || this.closed) return;
    this.#complained = true;
    if (failure) {
      const { code, message, remedy } = failure;
      this.#options.logger.warn({ code, remedy }, `${message}; trying again until it answers`);
    } else
      this.#options.logger.warn(
        { code: "broker.unreachable", servers: this.servers },
        "Lost the connection to NATS; connecting again until it answers",
      );
  }

  #emit(event: LinkEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }
}
