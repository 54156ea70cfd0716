/** Sends into the hub's logs, with the deadlines and failures a real broker has. */
import type { Publisher, SendOutcome } from "../../src/core/broker.ts";
import type { Channel } from "../../src/core/channel.ts";
import type { Clock } from "../../src/core/clock.ts";
import type { ReplicatorError } from "../../src/core/errors.ts";
import type { Message } from "../../src/core/message.ts";
import { closed, logFull, messageTooLarge, sendTimeout, topicMissing, unreachable } from "./errors.ts";
import { type MemoryHub, type MemoryPartition, recordOf } from "./hub.ts";

/** As Kafka's and NATS's default. */
const LIMIT = 1_048_576;

export class MemoryPublisher implements Publisher {
  readonly #hub: MemoryHub;
  readonly #clock: Clock;
  readonly #closed = new AbortController();
  readonly #until: AbortSignal;

  constructor(hub: MemoryHub, clock: Clock, brokerClosed: AbortSignal) {
    this.#hub = hub;
    this.#clock = clock;
    this.#until = AbortSignal.any([this.#closed.signal, brokerClosed]);
  }

  async send(channel: Channel, messages: readonly Message[], deadlineMs: number): Promise<readonly SendOutcome[]> {
    const deadline = this.#clock.monotonic() + deadlineMs;
    const failed = new Map<number, ReplicatorError>();
    const outcomes: SendOutcome[] = [];
    for (const message of messages) {
      const error = failed.get(message.partition) ?? (await this.#append(channel, message, deadline, deadlineMs));
      // What follows in the same partition must not overtake: order per partition. A message too large is the exception, it can never pass.
      if (error && error.code !== "broker.message_too_large") failed.set(message.partition, error);
      outcomes.push(error ? { ok: false, error } : { ok: true });
    }
    return outcomes;
  }

  async #append(
    channel: Channel,
    message: Message,
    deadline: number,
    deadlineMs: number,
  ): Promise<ReplicatorError | null> {
    if (message.body.byteLength > LIMIT) return messageTooLarge(message.body.byteLength, LIMIT);
    const name = this.#hub.logName(channel);
    for (;;) {
      if (this.#until.aborted) return closed();
      if (this.#hub.state === "stopped") return unreachable(`Cannot send to "${name}": the memory broker is stopped`);
      let waitFor: MemoryPartition | MemoryHub = this.#hub;
      if (this.#hub.state === "running") {
        const partition = this.#hub.log(name)?.partitions[message.partition];
        if (!partition) return topicMissing(name);
        if (partition.append(recordOf(message))) return null;
        waitFor = partition;
      }
      const left = deadline - this.#clock.monotonic();
      if (left <= 0) return waitFor === this.#hub ? sendTimeout(deadlineMs) : logFull(name);
      await waitFor.bell.wait(this.#until, left);
    }
  }

  close(): Promise<void> {
    this.#closed.abort();
    return Promise.resolve();
  }
}
