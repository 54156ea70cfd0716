/** The messages of one cut in one channel, read from the source and numbered: the same bytes whoever asks, and whenever (I13). */
import type { Channel } from "../core/channel.ts";
import type { Message } from "../core/message.ts";
import type { Cut, SourceStore } from "../core/source_store.ts";
import { eventMessages, frameMessages } from "./messages.ts";

export interface CutReading {
  readonly store: Pick<SourceStore, "readChunks" | "readEvents">;
  readonly channel: Channel;
  readonly cut: Cut;
  /** Last sequence number per partition before the cut. */
  readonly sequences: readonly number[];
  /** Told how many changes have been read, again and again. */
  onChanges(changes: number): void;
}

/** Yields batches as they come, returns the last sequence per partition. Bounded memory for a cut of any size (I11). */
export function cutMessages(reading: CutReading, signal: AbortSignal): AsyncGenerator<Message[], number[]> {
  const { store, channel, cut, sequences, onChanges } = reading;
  const counted = async function* <T>(batches: AsyncIterable<readonly T[]>, size: (item: T) => number) {
    for await (const items of batches) {
      onChanges(items.reduce((sum, item) => sum + size(item), 0));
      yield items;
    }
  };
  return channel.kind === "frames"
    ? frameMessages(
        channel,
        cut,
        sequences,
        counted(store.readChunks(cut, channel.name, signal), ({ rows }) => rows),
      )
    : eventMessages(
        channel,
        cut,
        sequences,
        counted(store.readEvents(cut, channel.name, signal), () => 1),
      );
}
