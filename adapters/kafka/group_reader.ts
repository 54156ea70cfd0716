/**
 * Keeps a kafkajs consumer alive for one feed and hands out claims. A consumer lives until it crashes, stands still or the
 * signal aborts; then all its claims are lost and the next life begins, for ever, with backoff.
 */

import { Backoff } from "../../src/core/backoff.ts";
import type { Claim, Feed } from "../../src/core/broker.ts";
import { isAbort, ReplicatorError } from "../../src/core/errors.ts";
import type { Mailbox } from "../../src/core/mailbox.ts";
import type { AdminConnection } from "./admin.ts";
import { ConsumerLife } from "./consumer_life.ts";
import type { KafkaContext } from "./options.ts";
import { partitionsOf } from "./topics.ts";

/** How often a missing topic is looked for. */
const LOOK_MS = 250;
const LOOK_MAX_MS = 2_000;

export class GroupReader {
  readonly #context: KafkaContext;
  readonly #admin: AdminConnection;
  readonly #feed: Feed;
  readonly #group: string;
  readonly #offered: Mailbox<Claim>;
  #life: ConsumerLife | null = null;

  constructor(context: KafkaContext, admin: AdminConnection, feed: Feed, group: string, offered: Mailbox<Claim>) {
    this.#context = context;
    this.#admin = admin;
    this.#feed = feed;
    this.#group = group;
    this.#offered = offered;
  }

  get heldBytes(): number {
    return this.#life?.heldBytes ?? 0;
  }

  /** Returns when the signal aborts. @throws ReplicatorError that waiting does not mend */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#context;
    const backoff = new Backoff({ firstMs: 100, maxMs: 3_000 });
    const feed = this.#feed.name;
    let trouble: string | null = null;
    while (!signal.aborted) {
      try {
        await this.#topicExists(signal);
        this.#life = new ConsumerLife({
          context: this.#context,
          admin: this.#admin,
          feed: this.#feed,
          group: this.#group,
          offer: (claim) => this.#offered.put(claim),
          joined: () => {
            backoff.reset();
            if (trouble !== null) logger.info({ feed }, `reading topic "${feed}" again`);
            trouble = null;
          },
        });
        await this.#life.run(signal);
      } catch (error) {
        if (signal.aborted || isAbort(error)) continue;
        if (!(error instanceof ReplicatorError) || error.retry === "never") throw error;
        // Said once per outage, not once per attempt.
        if (trouble === null) {
          trouble = error.code;
          logger.warn({ feed, code: error.code, remedy: error.remedy }, `${error.message}; trying on`);
        }
        await clock.sleep(backoff.next(), signal);
      } finally {
        this.#life = null;
      }
    }
  }

  async #topicExists(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#context;
    const backoff = new Backoff({ firstMs: LOOK_MS, maxMs: LOOK_MAX_MS });
    while (!signal.aborted && (await partitionsOf(this.#admin, this.#feed.name, signal)) === null) {
      if (backoff.attempts === 0) {
        logger.info(
          { feed: this.#feed.name },
          `topic "${this.#feed.name}" does not exist yet; waiting for its publisher`,
        );
      }
      await clock.sleep(backoff.next(), signal);
    }
  }
}
