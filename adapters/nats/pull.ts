/**
 * Pulling from one durable with bounded bytes (I11). Two pull requests take turns, each for half of the buffer: while the
 * reader works on one half the server fills the other, and a request waits at the server whenever there is room, so a
 * message is delivered the moment it is stored. (The client library's `consume` bounds bytes too, but stalls for two
 * heartbeats when a message does not fit the rest of a request, and cannot tell a lost delivery.)
 */
import type { Msg, NatsConnection, Subscription } from "@nats-io/nats-core";
import { createInbox, nanos } from "@nats-io/nats-core";
import type { Clock } from "../../src/core/clock.ts";
import { Pulse } from "./waits.ts";

const HEARTBEAT_MS = 3_000;
const EXPIRES_MS = 30_000;
/** Memory a message costs beside its body: some twenty objects (*measured* with one event a message). */
const MESSAGE_OVERHEAD = 3_072;
/** What the server adds to a body when it counts max_bytes: subject, reply subject, headers. */
const ENVELOPE_BYTES = 65_536;

/** One message as the server delivered it. */
export interface Pulled {
  readonly msg: Msg;
  readonly streamSequence: number;
  readonly deliveryCount: number;
}

/**
 * Why a session ended by itself: the durable is gone (`deleted`), a delivery was lost on the way (`gap`), heartbeats
 * stayed away (`stalled`) or came without the messages that are there (`standstill`), the server moved or stopped the
 * consumer (`moved`), or the connection was lost (`down`).
 */
export type PullEnd =
  | { readonly reason: "deleted" | "gap" | "stalled" | "standstill" | "moved" | "down" }
  | { readonly reason: "error"; readonly error: Error };

export interface PullOptions {
  readonly nc: Pick<NatsConnection, "info" | "publish" | "subscribe">;
  /** `$JS.API.CONSUMER.MSG.NEXT.<stream>.<durable>` */
  readonly nextSubject: string;
  /** The consumer's own number of the next delivery; those numbers have no gaps. */
  readonly nextDelivery: number;
  /** Deliveries up to this stream sequence are known already and dropped. */
  readonly after: number;
  readonly bufferBytes: number;
  readonly clock: Clock;
}

interface Slot {
  readonly inbox: string;
  subscription: Subscription | null;
  /** A request of this slot waits at the server. */
  active: boolean;
  /** Bytes the server may still send for it. */
  reserved: number;
  /** Messages it may still send. */
  left: number;
  /** Whether anything came since the request. */
  fed: boolean;
}

export class PullSession {
  readonly #options: PullOptions;
  readonly #slots: readonly Slot[];
  readonly #arrived = new Pulse();
  readonly #stopped = new AbortController();
  /** What was taken leaves its place empty: the array is only cut now and then, and bodies are large (I11). */
  #queue: ({ readonly pulled: Pulled; readonly bytes: number } | null)[] = [];
  #taken = 0;
  #held = 0;
  #slotBytes: number;
  #nextDelivery: number;
  #after: number;
  #lastSign: number;
  #end: PullEnd | null = null;

  constructor(options: PullOptions) {
    this.#options = options;
    const largest = (options.nc.info?.max_payload ?? 1_048_576) + ENVELOPE_BYTES;
    this.#slotBytes = Math.max(Math.floor(options.bufferBytes / 2), largest);
    this.#nextDelivery = options.nextDelivery;
    this.#after = options.after;
    this.#lastSign = options.clock.monotonic();
    this.#slots = [newSlot(), newSlot()];
  }

  /** Bytes of messages taken from the server and not yet by the reader. */
  get heldBytes(): number {
    return this.#held;
  }

  /** A request waits at the server and nothing waits for the reader. */
  get waiting(): boolean {
    return this.#taken === this.#queue.length && this.#slots.some((slot) => slot.active);
  }

  /** The consumer's own number of the next delivery. */
  get nextDelivery(): number {
    return this.#nextDelivery;
  }

  start(): void {
    for (const slot of this.#slots) {
      slot.subscription = this.#options.nc.subscribe(slot.inbox, {
        callback: (error, msg) => {
          if (error) this.finish({ reason: "error", error });
          else this.#receive(slot, msg);
        },
      });
    }
    this.#refill();
    void this.#watch();
  }

  /** The next message; null when the session has ended by itself (see `end`) or was stopped. */
  async next(): Promise<Pulled | null> {
    for (;;) {
      const item = this.#queue[this.#taken];
      if (item) {
        this.#queue[this.#taken++] = null;
        this.#held -= item.bytes;
        if (this.#taken === this.#queue.length) {
          this.#queue = [];
          this.#taken = 0;
        } else if (this.#taken >= 1_024) {
          this.#queue = this.#queue.slice(this.#taken);
          this.#taken = 0;
        }
        this.#refill();
        return item.pulled;
      }
      if (this.#end || this.#stopped.signal.aborted) return null;
      await this.#arrived.wait();
    }
  }

  get end(): PullEnd | null {
    return this.#end;
  }

  /** Ends the session; what arrived before is still given by next(). */
  finish(end: PullEnd): void {
    this.#end ??= end;
    this.#release();
  }

  /** Ends the session and forgets what arrived. */
  stop(): void {
    this.#queue = [];
    this.#taken = 0;
    this.#held = 0;
    this.#release();
  }

  #release(): void {
    this.#stopped.abort();
    for (const slot of this.#slots) {
      slot.active = false;
      slot.subscription?.unsubscribe();
      slot.subscription = null;
    }
    this.#arrived.wake();
  }

  #receive(slot: Slot, msg: Msg): void {
    if (this.#stopped.signal.aborted) return;
    this.#lastSign = this.#options.clock.monotonic();
    // Deliveries carry the subject they were stored under, the server's remarks that of the inbox.
    if (msg.subject === slot.inbox) this.#status(slot, msg);
    else this.#delivery(slot, msg);
  }

  #delivery(slot: Slot, msg: Msg): void {
    const info = parseReply(msg.reply ?? "");
    if (!info) return;
    const bytes = msg.data.byteLength + MESSAGE_OVERHEAD;
    slot.fed = true;
    slot.reserved = Math.max(0, slot.reserved - bytes);
    if (--slot.left <= 0) this.#vacate(slot);
    if (info.streamSequence <= this.#after) {
      // A redelivery, or what a durable that could not be made anew gives from before our position.
      this.#nextDelivery = info.consumerSequence + 1;
      this.#refill();
      return;
    }
    if (info.consumerSequence !== this.#nextDelivery) {
      // A delivery was lost between the server and us; it would come again only after ack_wait, and out of order.
      this.finish({ reason: "gap" });
      return;
    }
    this.#nextDelivery++;
    this.#after = info.streamSequence;
    this.#held += bytes;
    this.#queue.push({
      pulled: { msg, streamSequence: info.streamSequence, deliveryCount: info.deliveryCount },
      bytes,
    });
    this.#arrived.wake();
  }

  #status(slot: Slot, msg: Msg): void {
    const code = msg.headers?.code ?? 0;
    const description = (msg.headers?.description ?? "").toLowerCase();
    if (code === 100) {
      const last = Number(msg.headers?.get("Nats-Last-Consumer") ?? "");
      if (Number.isSafeInteger(last) && last >= this.#nextDelivery) this.finish({ reason: "gap" });
      return;
    }
    if (code === 503 || (code === 409 && description.includes("deleted"))) this.finish({ reason: "deleted" });
    else if (code === 409 && /leadership|shutdown/.test(description)) this.finish({ reason: "moved" });
    else if (code === 400) {
      this.finish({ reason: "error", error: new Error(`the server refused a pull request: ${description}`) });
    }
    // 408 expired, 409 batch completed or next message too large for the rest: the slot is free.
    if (description.includes("exceeds maxbytes") && !slot.fed) this.#slotBytes *= 2;
    this.#vacate(slot);
    this.#refill();
  }

  #vacate(slot: Slot): void {
    slot.active = false;
    slot.reserved = 0;
  }

  /** I11: what is held and what the server may still send never exceed two slots. */
  #refill(): void {
    if (this.#stopped.signal.aborted) return;
    for (const slot of this.#slots) {
      if (slot.active) continue;
      const reserved = this.#slots.reduce((sum, other) => sum + other.reserved, 0);
      if (this.#held + reserved > this.#slotBytes) continue;
      this.#request(slot);
    }
  }

  #request(slot: Slot): void {
    slot.active = true;
    slot.fed = false;
    slot.reserved = this.#slotBytes;
    // Small messages cost more memory than the bytes the server counts: so many of them fit.
    slot.left = Math.ceil(this.#slotBytes / MESSAGE_OVERHEAD);
    const request = {
      batch: slot.left,
      max_bytes: this.#slotBytes,
      expires: nanos(EXPIRES_MS),
      idle_heartbeat: nanos(HEARTBEAT_MS),
    };
    this.#lastSign = this.#options.clock.monotonic();
    try {
      this.#options.nc.publish(this.#options.nextSubject, JSON.stringify(request), { reply: slot.inbox });
    } catch (error) {
      this.finish({ reason: "error", error: error instanceof Error ? error : new Error(String(error)) });
    }
  }

  /** A server that goes silent without closing the connection is an error with a name, not a wait for ever. */
  async #watch(): Promise<void> {
    const { clock } = this.#options;
    while (!this.#stopped.signal.aborted) {
      await clock.sleep(HEARTBEAT_MS, this.#stopped.signal);
      const waiting = this.#slots.some((slot) => slot.active);
      if (waiting && clock.monotonic() - this.#lastSign > 2.5 * HEARTBEAT_MS) this.finish({ reason: "stalled" });
    }
  }
}

function newSlot(): Slot {
  return { inbox: createInbox(), subscription: null, active: false, reserved: 0, left: 0, fed: false };
}

/**
 * `$JS.ACK.<stream>.<consumer>.<count>.<stream seq>.<consumer seq>.<time>.<pending>`, in newer servers with
 * `<domain>.<account>` behind ACK and further tokens at the end.
 */
function parseReply(reply: string): { deliveryCount: number; streamSequence: number; consumerSequence: number } | null {
  const tokens = reply.split(".");
  const first = tokens.length === 9 ? 4 : 6;
  const [count, streamSequence, consumerSequence] = [tokens[first], tokens[first + 1], tokens[first + 2]].map(Number);
  if (tokens[1] !== "ACK" || count === undefined || streamSequence === undefined || consumerSequence === undefined)
    return null;
  return { deliveryCount: count, streamSequence, consumerSequence };
}
