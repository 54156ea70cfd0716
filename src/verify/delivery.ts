/**
 * Whether what two contours had committed at a moment has reached the other one: by positions, never by time. The source's
 * snapshot says what was committed, the queue whether the broker has it, and the other contour's ledger whether it is applied.
 */
import type { ChannelPosition, VerifySide } from "../core/verify.ts";

/** One way between two contours: from where to where, and the source's name. */
interface Way {
  readonly from: VerifySide;
  readonly to: VerifySide;
  readonly source: string;
}

export interface DeliverySides {
  readonly here: VerifySide;
  readonly there: VerifySide;
  /** Names of the contours; null where our objects are not installed. */
  readonly hereName: string | null;
  readonly thereName: string | null;
}

/** Tells for the moment at which it was made whether everything up to it has arrived. */
export type Delivered = () => Promise<boolean>;

/** Marks what is committed now at both. A way that nobody has ever gone counts as arrived: nothing is to come by it. */
export async function markDelivery(sides: DeliverySides, signal: AbortSignal): Promise<Delivered> {
  const { here, there, hereName, thereName } = sides;
  const ways: Way[] = [];
  if (hereName) ways.push({ from: here, to: there, source: hereName });
  if (thereName) ways.push({ from: there, to: here, source: thereName });
  const marks = await Promise.all(ways.map(({ from }) => from.mark(signal)));
  let open = ways.flatMap((way, n) => {
    const mark = marks[n];
    return mark === null || mark === undefined ? [] : [{ ...way, mark }];
  });
  return async () => {
    const arrived = await Promise.all(open.map((way) => hasArrived(way, way.mark, signal)));
    open = open.filter((_, n) => !arrived[n]);
    return open.length === 0;
  };
}

async function hasArrived({ from, to, source }: Way, mark: string, signal: AbortSignal): Promise<boolean> {
  const published = await from.published(mark, signal);
  if (published === null) return false;
  const applied = await to.applied(source, signal);
  return applied === null || published.every((position) => isReached(position, applied));
}

function isReached({ channel, partition, epoch, sequence }: ChannelPosition, applied: readonly ChannelPosition[]) {
  if (sequence === 0n) return true;
  const at = applied.find((one) => one.channel === channel && one.partition === partition);
  return at !== undefined && (at.epoch > epoch || (at.epoch === epoch && at.sequence >= sequence));
}
