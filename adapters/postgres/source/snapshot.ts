/** pg_snapshot text, `xmin:xmax:xip,xip…`, and the two questions a cut asks of it (architecture §4.2). */

export interface Snapshot {
  readonly xmin: bigint;
  /** First xid not yet assigned. */
  readonly xmax: bigint;
  /** In progress, ascending. */
  readonly xip: readonly bigint[];
}

/** Before everything: what the first cut reads from, so that rows captured before the first start are sent. */
export const BEGINNING = "1:1:";

/** @throws Error when the text is no snapshot: our own tables hold nothing else */
export function parseSnapshot(text: string): Snapshot {
  const match = /^([0-9]+):([0-9]+):([0-9,]*)$/.exec(text);
  if (!match) throw new Error(`Read "${text}", expected a snapshot as PostgreSQL writes it`);
  const xip = match[3] ? match[3].split(",").map(BigInt) : [];
  return { xmin: BigInt(match[1] as string), xmax: BigInt(match[2] as string), xip };
}

/** Whether a transaction had ended when the snapshot was taken: pg_visible_in_snapshot. */
export function hadEnded(xid: bigint, snapshot: Snapshot): boolean {
  if (xid < snapshot.xmin) return true;
  return xid < snapshot.xmax && !snapshot.xip.includes(xid);
}

/** Transactions that were open in `from` and had ended in `to`: the late commits of a cut (I2). */
export function endedBetween(from: Snapshot, to: Snapshot): bigint[] {
  return from.xip.filter((xid) => hadEnded(xid, to));
}
