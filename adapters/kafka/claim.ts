/**
 * One partition the group has assigned to us. Until read() it is paused. A read seeks to its position and resumes; the
 * messages fetched wait in a window, and when that is full the partition is paused until the reader has caught up.
 */
import type { KafkaMessage } from "kafkajs";
import type { Claim, Delivery, Feed, Position } from "../../src/core/broker.ts";
import type { Clock } from "../../src/core/clock.ts";
import { deliveryOf } from "./delivery.ts";
import { MessageWindow } from "./window.ts";

/** What a claim asks of the consumer it belongs to. */
export interface PartitionControl {
  readonly clock: Clock;
  /** Above this the partition is paused; one more fetch may come on top. */
  readonly highBytes: number;
  /** The log's identity and the offset a read from `from` begins at. @throws ReplicatorError */
  resolve(partition: number, from: Position | null, signal: AbortSignal): Promise<{ identity: string; offset: string }>;
  seek(partition: number, offset: string): void;
  pause(partition: number): void;
  resume(partition: number): void;
  acknowledge(partition: number, offset: string): void;
  released(claim: KafkaClaim): void;
}

interface ActiveRead {
  readonly stop: AbortController;
  readonly window: MessageWindow;
  /** Offset of the message to be fetched next. */
  next: string;
  paused: boolean;
  wake: () => void;
  drained: () => void;
}

export class KafkaClaim implements Claim {
  readonly feed: Feed;
  readonly partition: number;
  readonly #control: PartitionControl;
  readonly #lost = new AbortController();
  #read: ActiveRead | null = null;
  #begun = new AbortController();
  #notBefore = 0;
  #nacked: { offset: string; attempt: number } | null = null;

  constructor(feed: Feed, partition: number, control: PartitionControl) {
    this.feed = feed;
    this.partition = partition;
    this.#control = control;
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  get heldBytes(): number {
    return this.#read?.window.bytes ?? 0;
  }

  /** The offset that is waited for; null when there is nothing to wait for: no read, or messages are there to be taken. */
  get awaited(): string | null {
    const read = this.#read;
    return read && !read.paused && read.window.empty ? read.next : null;
  }

  async *read(from: Position | null, signal: AbortSignal): AsyncGenerator<Delivery, void, undefined> {
    this.#begun.abort();
    const stop = new AbortController();
    this.#begun = stop;
    const until = AbortSignal.any([signal, stop.signal, this.lost]);
    const { clock } = this.#control;
    const delay = this.#notBefore - clock.monotonic();
    if (delay > 0) await clock.sleep(delay, until);
    if (until.aborted) return;
    const { identity, offset } = await this.#start(from, until);
    if (until.aborted) return;

    const read: ActiveRead = {
      stop,
      window: new MessageWindow(),
      next: offset,
      paused: false,
      wake: () => {},
      drained: () => {},
    };
    const wake = () => read.wake();
    until.addEventListener("abort", wake);
    this.#read = read;
    this.#control.seek(this.partition, offset);
    this.#control.resume(this.partition);
    try {
      while (!until.aborted) {
        const message = read.window.take();
        if (message) {
          yield this.#delivery(message, identity, read);
          this.#makeRoom(read);
          continue;
        }
        await new Promise<void>((resolve) => {
          read.wake = resolve;
        });
      }
    } finally {
      until.removeEventListener("abort", wake);
      read.window.clear();
      read.drained();
      if (this.#read === read) {
        this.#read = null;
        if (!this.lost.aborted) this.#control.pause(this.partition);
      }
    }
  }

  /** An abort while the start is looked up ends the read quietly. */
  async #start(from: Position | null, until: AbortSignal): Promise<{ identity: string; offset: string }> {
    try {
      return await this.#control.resolve(this.partition, from, until);
    } catch (error) {
      if (until.aborted) return { identity: "", offset: "0" };
      throw error;
    }
  }

  #delivery(message: KafkaMessage, identity: string, read: ActiveRead): Delivery {
    const attempt = this.#nacked?.offset === message.offset ? this.#nacked.attempt : 1;
    return deliveryOf(message, identity, {
      attempt,
      ack: (next) => this.#control.acknowledge(this.partition, next),
      nack: (offset, delayMs) => {
        this.#nacked = { offset, attempt: attempt + 1 };
        this.#notBefore = this.#control.clock.monotonic() + delayMs;
        read.stop.abort();
      },
    });
  }

  #makeRoom(read: ActiveRead): void {
    if (read.window.bytes > this.#control.highBytes / 2) return;
    read.drained();
    if (read.paused && this.#read === read) {
      read.paused = false;
      this.#control.resume(this.partition);
    }
  }

  /**
   * Takes a fetched batch. Resolves when there is room for another one, at the latest after `patienceMs`; the partition
   * is then paused, so that other partitions of the same fetch do not wait for this reader. A batch from before the
   * position that was asked for is never given out: it ends the claim.
   */
  async accept(messages: readonly KafkaMessage[], lastOffset: string, patienceMs: number): Promise<void> {
    const read = this.#read;
    if (!read) return;
    const first = messages[0];
    // The log went back behind us (kafkajs then begins at its earliest message): where to read on is not for it to say.
    if (first && BigInt(first.offset) < BigInt(read.next)) return this.release();
    read.window.add(messages);
    read.next = String(BigInt(lastOffset) + 1n);
    read.wake();
    if (read.window.bytes <= this.#control.highBytes) return;
    const patience = new AbortController();
    await Promise.race([
      new Promise<void>((resolve) => {
        read.drained = resolve;
      }),
      this.#control.clock.sleep(patienceMs, patience.signal),
    ]);
    patience.abort();
    if (this.#read === read && read.window.bytes > this.#control.highBytes / 2) {
      read.paused = true;
      this.#control.pause(this.partition);
    }
  }

  /**
   * A fetched batch is done with. One without messages (control records only) comes by here alone; one with messages went
   * through accept(), and by now another read may have begun before its end.
   */
  passed(batch: { readonly batchSize: number; readonly lastOffset: string }): void {
    const read = this.#read;
    if (!read || batch.batchSize > 0) return;
    if (BigInt(batch.lastOffset) >= BigInt(read.next)) read.next = String(BigInt(batch.lastOffset) + 1n);
  }

  /** After a rebalance that left the partition here: kafkajs begins anew at the committed offset, we go on where we were. */
  rejoin(): void {
    if (this.#read) this.#control.seek(this.partition, this.#read.next);
    if (!this.#read || this.#read.paused) this.#control.pause(this.partition);
  }

  lose(): void {
    this.#lost.abort();
  }

  release(): Promise<void> {
    if (!this.lost.aborted) {
      this.#control.pause(this.partition);
      this.#lost.abort();
      this.#control.released(this);
    }
    return Promise.resolve();
  }
}
