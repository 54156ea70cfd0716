/**
 * Turns a consumer that stands still into an error. kafkajs can stop fetching while its heartbeats go on (#659), and lose
 * its way after session timeouts (#1277); the group then believes in it for ever.
 */
import { ReplicatorError } from "../../src/core/errors.ts";
import type { KafkaContext } from "./options.ts";

export interface ProgressOptions {
  readonly context: Pick<KafkaContext, "clock" | "logger">;
  readonly topic: string;
  /** The partitions' ends as the broker says them. */
  tails(signal: AbortSignal): Promise<readonly { readonly partition: number; readonly high: string }[]>;
  /** Partition → offset that is waited for, where a reader waits. */
  awaited(): ReadonlyMap<number, string>;
  /** When the fetch loop gave its last sign of life; of several brokers, the one that has been silent longest. */
  movedAt(): number;
  /** True while the group divides its partitions anew: nobody fetches then. */
  rebalancing(): boolean;
  readonly signal: AbortSignal;
}

const LOOK_MS = 2_000;
/** The ends of the partitions are asked for at every so many looks. */
const TAILS_EVERY = 3;
/** An idle fetch is answered ten times a second: a broker silent for so long is frozen, or kafkajs has stopped. */
const SILENT_MS = 8_000;
/** Above what a rebalance may take. */
const REBALANCE_MS = 25_000;

/** Returns when the signal aborts. @throws ReplicatorError `broker.consumer_stalled` */
export async function watchProgress(options: ProgressOptions): Promise<void> {
  const { context, topic, signal } = options;
  const { clock, logger } = context;
  let behind = new Map<number, string>();
  for (let look = 1; ; look++) {
    await clock.sleep(LOOK_MS, signal);
    if (signal.aborted) return;
    const silent = clock.monotonic() - options.movedAt();
    if (silent > (options.rebalancing() ? REBALANCE_MS : SILENT_MS)) {
      throw stalled(topic, `no answer to a fetch for ${(silent / 1_000).toFixed(0)} s`);
    }
    const waiting = options.awaited();
    if (look % TAILS_EVERY !== 0 || waiting.size === 0) continue;
    try {
      const tails = await options.tails(signal);
      const before = behind;
      behind = new Map();
      // Read anew: messages may have come while the tails were asked for.
      for (const [partition, offset] of options.awaited()) {
        const tail = tails.find((entry) => entry.partition === partition)?.high ?? "0";
        if (waiting.get(partition) !== offset || BigInt(tail) <= BigInt(offset)) continue;
        if (before.get(partition) === offset)
          throw stalled(topic, `partition ${partition} stays at offset ${offset} of ${tail}`);
        behind.set(partition, offset);
      }
    } catch (error) {
      if (error instanceof ReplicatorError && error.code === STALLED) throw error;
      logger.debug({ topic, error: String(error) }, "the watchdog could not read the topic's offsets");
    }
  }
}

const STALLED = "broker.consumer_stalled";

function stalled(topic: string, how: string): ReplicatorError {
  return new ReplicatorError({
    code: STALLED,
    message: `The consumer of topic "${topic}" stands still: ${how}; it is started anew`,
    retry: "backoff",
    fault: "environment",
    facts: { topic },
  });
}
