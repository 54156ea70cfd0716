/** The one partition of a channel's queue: reads the cuts in order, hands their messages on, confirms what the target has. */
import type { Claim, Delivery, Feed, Position } from "../core/broker.ts";
import { ByteQueue } from "../core/byte_queue.ts";
import { type Channel, channelLabel } from "../core/channel.ts";
import type { Clock } from "../core/clock.ts";
import { type HeldLease, LeaseKeeper } from "../core/lease_keeper.ts";
import type { Logger } from "../core/logger.ts";
import { type LoopHealth, runLoop } from "../core/loop.ts";
import { HEADER, type Message } from "../core/message.ts";
import type { Cut, SourceStore } from "../core/source_store.ts";
import type { Wake } from "../core/wake.ts";
import { cutMessages } from "../publish/cut_messages.ts";
import { Confirmations } from "./confirmations.ts";

export interface QueueLogOptions {
  readonly store: SourceStore;
  readonly owner: string;
  /** Of the leases of channels at the source. */
  readonly leaseMs: number;
  /** The longest wait for a cut that another process has taken. */
  readonly pollIntervalMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of a channel; rung when this process has taken a cut. */
  wake(channel: Channel): Wake;
  /** Of the loop that reads a channel at the source. */
  health(channel: Channel): LoopHealth;
  readonly on: QueueLogEvents;
}

export interface QueueLogEvents {
  /** This process reads the channel from now on, after this confirmed cut; null: no more. */
  onReading(channel: Channel, confirmedCut: number | null): void;
  /** The last message of a cut has been handed on. */
  onRead(channel: Channel, cut: Cut): void;
  onConfirmed(channel: Channel, cut: Cut, changes: number): void;
  onMessage(channel: Channel, bytes: number): void;
}

export interface QueueClaimOptions extends QueueLogOptions {
  readonly feed: Feed;
  readonly channel: Channel;
}

/** Bytes of messages read ahead of the consumer (I11). */
const AHEAD_BYTES = 2 * 1024 * 1024;
/** Memory a message costs beside its body. */
const MESSAGE_OVERHEAD = 1_024;
const CUTS_AT_A_TIME = 16;
/** Another process that holds the channel at the source for so long is no predecessor whose lease runs out. */
const ELSEWHERE_LEASES = 3;

export class QueueClaim implements Claim {
  readonly feed: Feed;
  readonly partition = 0;
  readonly #options: QueueClaimOptions;
  readonly #lost = new AbortController();
  #read = new AbortController();

  constructor(options: QueueClaimOptions) {
    this.#options = options;
    this.feed = options.feed;
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** `from` is not looked at: what the ledger has and the source does not know to be applied comes again, and is dropped. */
  async *read(_from: Position | null, signal: AbortSignal): AsyncGenerator<Delivery, void, undefined> {
    this.#read.abort();
    const mine = new AbortController();
    this.#read = mine;
    const until = AbortSignal.any([signal, mine.signal, this.lost]);
    const ahead = new ByteQueue<Delivery>(AHEAD_BYTES);
    // Whoever waits for room must not be kept by a consumer that waits for its database.
    until.addEventListener("abort", () => ahead.close(), { once: true });
    const feeding = this.#feed(ahead, until, () => mine.abort()).then(
      () => ahead.close(),
      (error: unknown) => ahead.fail(error),
    );
    try {
      for (let next = await ahead.take(); next && !until.aborted; next = await ahead.take()) yield next;
    } finally {
      mine.abort();
      await feeding;
    }
  }

  release(): Promise<void> {
    this.#lost.abort();
    return Promise.resolve();
  }

  /**
   * Under the channel's lease at the source, until that is lost or `until` aborts. A source that does not answer is waited
   * for here: the consumer goes on with what it has. @throws ReplicatorError what waiting cannot mend
   */
  async #feed(ahead: ByteQueue<Delivery>, until: AbortSignal, end: () => void): Promise<void> {
    const { store, channel, owner, leaseMs, clock, logger, on } = this.#options;
    const health = this.#options.health(channel);
    const what = `channel ${channelLabel(channel)}`;
    const keeper = new LeaseKeeper({
      what,
      ttlMs: leaseMs,
      acquire: () => store.lease("channel", channel.name, owner, leaseMs),
      release: (lease) => store.releaseLease("channel", channel.name, lease),
      clock,
      logger,
    });
    const body = async (moving: () => void) => {
      const waitingSince = clock.monotonic();
      const elsewhere = () => {
        if (clock.monotonic() - waitingSince < ELSEWHERE_LEASES * leaseMs) return;
        health.trouble = `another process holds the lease of ${what} at the source: does a publisher of this contour run elsewhere?`;
      };
      const work = async (held: HeldLease, lost: AbortSignal) => {
        // Another's from now on: what he confirms, and what the ledger has by then, a new reading finds out.
        lost.addEventListener("abort", end, { once: true });
        try {
          await this.#readCuts(ahead, held, lost, end, moving);
        } finally {
          lost.removeEventListener("abort", end);
          on.onReading(channel, null);
        }
      };
      await keeper.hold(until, work, elsewhere);
    };
    try {
      await runLoop({ name: health.name, health, clock, logger, signal: until, body });
    } finally {
      health.trouble = null;
    }
  }

  /** Reading and confirming go on side by side; the first that fails ends both. */
  async #readCuts(
    ahead: ByteQueue<Delivery>,
    held: HeldLease,
    lost: AbortSignal,
    end: () => void,
    moving: () => void,
  ): Promise<void> {
    const { store, channel, clock, on, wake } = this.#options;
    const state = await store.channelState(channel.name, channel.partitions);
    on.onReading(channel, state.confirmedCut);
    const confirmations = new Confirmations({
      store,
      channel: channel.name,
      held,
      confirmed: state.sequences[0] ?? 0,
      clock,
      onConfirmed: (cut, changes) => on.onConfirmed(channel, cut, changes),
    });
    const over = new AbortController();
    const until = AbortSignal.any([lost, over.signal]);
    const confirming = confirmations.run(until).finally(() => over.abort());
    // Its rejection is taken below; this keeps it from counting as unhandled until then.
    confirming.catch(() => undefined);
    try {
      let { confirmedCut: last, sequences } = state;
      while (!until.aborted) {
        const cuts = await store.cutsAfter(last, CUTS_AT_A_TIME);
        moving();
        for (const cut of cuts) {
          const read = await this.#readCut(ahead, cut, sequences, confirmations, until, end);
          if (!read) return;
          confirmations.read(cut, read.sequences, read.changes);
          sequences = read.sequences;
          last = cut.cutNo;
          on.onRead(channel, cut);
        }
        if (cuts.length === 0) await wake(channel).wait(this.#options.pollIntervalMs, until);
      }
    } finally {
      over.abort();
      await confirming;
    }
  }

  /** Null when nobody takes messages any more. */
  async #readCut(
    ahead: ByteQueue<Delivery>,
    cut: Cut,
    sequences: readonly number[],
    confirmations: Confirmations,
    until: AbortSignal,
    end: () => void,
  ): Promise<{ readonly sequences: readonly number[]; readonly changes: number } | null> {
    const { store, channel, on } = this.#options;
    let changes = 0;
    const onChanges = (read: number) => {
      changes += read;
    };
    const messages = cutMessages({ store, channel, cut, sequences, onChanges }, until);
    try {
      for (;;) {
        const step = await messages.next();
        if (step.done) return { sequences: step.value, changes };
        for (const message of step.value) {
          const bytes = message.body.length;
          if (!(await ahead.push(this.#delivery(message, confirmations, end), bytes + MESSAGE_OVERHEAD))) return null;
          on.onMessage(channel, bytes);
        }
      }
    } finally {
      await messages.return([]);
    }
  }

  #delivery({ body, key, headers }: Message, confirmations: Confirmations, end: () => void): Delivery {
    const sequence = Number(headers[HEADER.sequence]);
    return {
      body,
      key,
      headers,
      next: { identity: this.feed.name, offset: String(sequence + 1) },
      attempt: 1,
      ack: () => confirmations.applied(sequence),
      nack: end,
    };
  }
}
