/** Sends: every message is stored and confirmed, stored and not confirmed, stored much later, or not at all. */
import type { Publisher, SendOutcome } from "../../../src/core/broker.ts";
import { type Channel, channelLabel } from "../../../src/core/channel.ts";
import type { Message } from "../../../src/core/message.ts";
import { unreachable } from "../kernel/network.ts";
import type { BrokerPortOptions } from "./port.ts";

const OK: SendOutcome = { ok: true };
/** A message that lingers may be stored so long after it was sent: after its deadline, after the sender's lease. */
const LINGERS_MS = 12_000;

export class PortPublisher implements Publisher {
  readonly #options: BrokerPortOptions;

  constructor(options: BrokerPortOptions) {
    this.#options = options;
  }

  send(channel: Channel, messages: readonly Message[], deadlineMs: number): Promise<readonly SendOutcome[]> {
    const { scheduler, random, host, isDown } = this.#options;
    const what = `send ${channelLabel(channel)} ${messages.map(({ partition, headers }) => `${partition}:${headers["replicator-sequence"]}`).join()}`;
    const failed: SendOutcome = { ok: false, error: unreachable("the broker", what) };
    return new Promise((resolve) => {
      const arrive = () => {
        if (!host.alive && random.chance(0.5)) return;
        const answer = (outcomes: readonly SendOutcome[], ms: number) =>
          scheduler.after(ms, host, () => resolve(outcomes));
        if (isDown()) {
          answer(
            messages.map(() => failed),
            random.chance(0.5) ? 1 : deadlineMs,
          );
          return;
        }
        const outcomes = messages.map((message) => this.#store(channel, message, failed));
        this.#options.trace(() => `${host.name} ${what}: ${outcomes.map(({ ok }) => (ok ? "ok" : "FAILED")).join()}`);
        answer(outcomes, outcomes.every(({ ok }) => ok) ? random.between(0.1, 1) : random.between(0.1, deadlineMs));
      };
      scheduler.after(random.between(0.1, 1), null, arrive);
    });
  }

  #store(channel: Channel, message: Message, failed: SendOutcome): SendOutcome {
    const { scheduler, random, host, server, hazards } = this.#options;
    const { late, refused, lost, dies } = hazards();
    const draw = random.next();
    if (draw < late) {
      scheduler.after(random.next() ** 2 * LINGERS_MS, null, () => server.store(channel, message));
      return failed;
    }
    if (draw < late + refused) return failed;
    if (draw < late + refused + dies) {
      this.#options.trace(() => `${host.name} DIES while it sends`);
      host.kill();
      return failed;
    }
    server.store(channel, message);
    return draw < late + refused + dies + lost ? failed : OK;
  }

  async close(): Promise<void> {}
}
