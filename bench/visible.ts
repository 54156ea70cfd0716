/** Waiting for rows at the target, and saying when they were there. */
import type { Sql } from "postgres";
import { wallMs } from "./measurements.ts";

/** Between two looks. A look costs the target a fraction of it, the same for everybody. */
const LOOK_EVERY_MS = 2;
const TIMEOUT_MS = 900_000;

export interface Awaited {
  /** For the error: "bulk insert". */
  readonly what: string;
  /** A cheap look that can only succeed near the end: SQL that returns one row with `there`. */
  readonly probe: string;
  /** SQL that counts, in `rows`; asked when the probe has succeeded. */
  readonly count: string;
  readonly rows: number;
}

/**
 * Waits until the count is right.
 * @returns wallMs() when the count that was right was asked for: its snapshot saw every row
 * @throws Error when that does not come to pass
 */
export async function untilVisible(target: Sql, { what, probe, count, rows }: Awaited): Promise<number> {
  const looks = {
    probe: async () => (await target.unsafe<{ there: boolean }[]>(probe, [], { prepare: true }))[0]?.there === true,
    count: async () => Number((await target.unsafe<{ rows: string }[]>(count, [], { prepare: true }))[0]?.rows),
  };
  return await untilCounted(looks, { what, rows, timeoutMs: TIMEOUT_MS });
}

export interface Looks {
  probe(): Promise<boolean>;
  count(): Promise<number>;
}

/** As untilVisible(), of whatever can be looked at. */
export async function untilCounted(
  looks: Looks,
  { what, rows, timeoutMs }: Pick<Awaited, "what" | "rows"> & { readonly timeoutMs: number },
): Promise<number> {
  const deadline = wallMs() + timeoutMs;
  for (;;) {
    let seen = "the last row is not as it should be";
    if (await looks.probe()) {
      const asked = wallMs();
      const counted = await looks.count();
      if (counted === rows) return asked;
      seen = `${counted} rows are there`;
    }
    if (wallMs() > deadline) throw new Error(`${what}: ${seen} after ${timeoutMs / 1_000} s, expected ${rows}`);
    await pause(LOOK_EVERY_MS);
  }
}

export async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
