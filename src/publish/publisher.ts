/** The publisher role: one sender per channel of this contour. */
import type { Broker } from "../core/broker.ts";
import type { Channel } from "../core/channel.ts";
import { runSender, type SenderOptions, type SenderStats } from "./sender.ts";

export interface PublisherOptions extends Omit<SenderOptions, "channel" | "publisher" | "stats" | "health" | "wake"> {
  readonly broker: Broker;
  readonly senders: readonly SenderSetup[];
}

export interface SenderSetup extends Pick<SenderOptions, "health" | "wake" | "stats"> {
  readonly channel: Channel;
}

export function newSenderStats(): SenderStats {
  return { messages: 0, bytes: 0, changes: 0, failures: 0, confirmedCut: 0, owner: false };
}

/** Runs until the signal aborts; the channels are made first. @throws what cannot be mended by waiting */
export async function runPublisher(options: PublisherOptions, signal: AbortSignal): Promise<void> {
  const { broker, senders, ...shared } = options;
  for (const { channel } of senders) await broker.ensureChannel(channel, signal);
  const publisher = broker.publisher();
  try {
    await Promise.all(senders.map((setup) => runSender({ ...shared, ...setup, publisher }, signal)));
  } finally {
    await publisher.close();
  }
}
