/** What one group of batches leaves in `applied`: the view processed_events lists its events from it. */
import type { ApplyBatch, LedgerPosition } from "../../../../src/core/target_store.ts";
import { writtenName } from "../../text.ts";
import type { AppliedRecord } from "../ledger.ts";
import type { Piece } from "./plan.ts";
import type { Retried } from "./retry.ts";

/** The rows of one unit and what became of them. */
export interface Entry {
  readonly pieces: readonly Piece[];
  readonly rows: number;
  /** Of every row, joined by commas; null when none is known. */
  readonly versions: string | null;
  readonly lost: readonly number[];
  /** Rows in the inbox, by ordinal within the unit. */
  readonly parked: readonly { readonly id: string; readonly n: number }[];
}

/** `retried`: what the retry at commit has left of the parked ones; the others were applied after all. */
export function appliedRecord(entries: readonly Entry[], last: ApplyBatch, retried: Retried | null): AppliedRecord {
  const exceptions: Record<string, "beaten" | "overridden" | "parked"> = {};
  const versions: string[] = [];
  let capturedAt: string | null = null;
  let first = 0;
  for (const entry of entries) {
    for (const n of entry.lost) exceptions[first + n] = "beaten";
    for (const { id, n } of entry.parked) {
      if (retried?.pending.has(id)) exceptions[first + n] = "parked";
      else if (retried?.overridden.has(id)) exceptions[first + n] = "overridden";
    }
    versions.push(entry.versions ?? Array<string>(entry.rows).fill("NULL").join(","));
    first += entry.rows;
    for (const { header } of entry.pieces) {
      // All in one format and zone, so text order is time order.
      if (header.captured_at !== "" && (capturedAt === null || header.captured_at > capturedAt))
        capturedAt = header.captured_at;
    }
  }
  return {
    position: positionAfter(last),
    endsCut: last.endsCut,
    chunks: JSON.stringify(entries.flatMap((entry) => entry.pieces.map(describe))),
    versions: versions.join(","),
    exceptions: Object.keys(exceptions).length > 0 ? JSON.stringify(exceptions) : null,
    capturedAt,
  };
}

export function positionAfter(batch: ApplyBatch): LedgerPosition {
  return { epoch: batch.epoch, sequence: batch.sequence, cutNo: batch.cutNo, position: batch.next };
}

function describe({ header }: Piece) {
  const { schema, table, operation, first_queue_id, rows, transaction } = header;
  return { table: writtenName(schema, table), operation, first_queue_id, rows, transaction };
}
