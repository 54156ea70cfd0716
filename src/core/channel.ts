/** A channel: an ordered log of one source contour's changes, with 1..n partitions (architecture §5). */
export interface Channel {
  /** The source contour. */
  readonly contour: string;
  /** `changes` for the default channel, else the `topic` a table names in the configuration. */
  readonly name: string;
  readonly kind: "frames" | "events";
  readonly partitions: number;
}

/** Name of the contour's default channel of frames. */
export const DEFAULT_CHANNEL = "changes";

/** `active/changes`: how logs, metrics and errors name a channel. */
export function channelLabel(channel: Pick<Channel, "contour" | "name">): string {
  return `${channel.contour}/${channel.name}`;
}
