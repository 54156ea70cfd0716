/**
 * The second look at rows that differed: changes flow while tables are compared. A row is different when both images have
 * stayed as they were although everything committed before the look has arrived; it is in flight while it still changes or
 * something committed before has not arrived.
 */
import type { VerifyRows } from "../core/verify.ts";
import type { Candidate } from "./compare_rows.ts";
import type { Delivered } from "./delivery.ts";
import type { Patience } from "./patience.ts";

export interface SettleOptions {
  readonly here: VerifyRows;
  readonly there: VerifyRows;
  readonly signal: AbortSignal;
  readonly patience: Patience;
  /** Marks what is committed now at both contours. */
  mark(): Promise<Delivered>;
}

export interface Verdicts {
  readonly different: readonly Candidate[];
  readonly inFlight: readonly Candidate[];
}

/** Rows written again and again are not looked at for ever. */
const LOOKS = 20;

/** The candidates that are equal by now are left out. */
export async function settle(candidates: readonly Candidate[], options: SettleOptions): Promise<Verdicts> {
  const different: Candidate[] = [];
  const inFlight: Candidate[] = [];
  let open = candidates;
  for (let look = 1; open.length > 0; look++) {
    // The images are older than the mark: an image that has not changed since holds nothing that is newer than the mark.
    const delivered = await options.patience.until(await options.mark(), options.signal);
    const seen = await lookAgain(open, options);
    const moved: Candidate[] = [];
    for (const [n, now] of seen.entries()) {
      const before = open[n];
      if (now.here === now.there) continue;
      const still = before?.here === now.here && before.there === now.there;
      if (still && delivered) different.push(now);
      else if (!delivered || look === LOOKS) inFlight.push(now);
      else moved.push(now);
    }
    open = moved;
  }
  return await setPolledApart({ different, inFlight }, options);
}

async function lookAgain(open: readonly Candidate[], { here, there, signal }: SettleOptions): Promise<Candidate[]> {
  const keys = open.map(({ key }) => key);
  const [ours, theirs] = await Promise.all([
    here.hashes(here.list(keys), signal),
    there.hashes(there.list(keys), signal),
  ]);
  return keys.map((key, n) => ({ key, here: ours[n] ?? null, there: theirs[n] ?? null }));
}

/** A table that is polled has no queue: what was written since the last poll is on its way as well. */
async function setPolledApart(verdicts: Verdicts, { here, there, signal }: SettleOptions): Promise<Verdicts> {
  const { different, inFlight } = verdicts;
  if (different.length === 0) return verdicts;
  const keys = different.map(({ key }) => key);
  const [ours, theirs] = await Promise.all([
    here.unpolled(here.list(keys), signal),
    there.unpolled(there.list(keys), signal),
  ]);
  const waits = (n: number) => ours[n] === true || theirs[n] === true;
  return {
    different: different.filter((_, n) => !waits(n)),
    inFlight: [...inFlight, ...different.filter((_, n) => waits(n))],
  };
}
