/** The chunks of a group whose rows are complete. */
import type { ApplyBatch } from "../../../../src/core/target_store.ts";
import type { Catalog } from "../catalog/catalog.ts";
import type { Fragments } from "./fragments.ts";
import { chunksOf, type WholeChunk, wholeChunk } from "./plan.ts";

/** Pieces of large rows are stored until the last one is in. */
export async function wholeChunks(
  batches: readonly ApplyBatch[],
  catalog: Catalog,
  fragments: Fragments,
): Promise<readonly WholeChunk[]> {
  const chunks: WholeChunk[] = [];
  for (const batch of batches) {
    for (const chunk of chunksOf(batch, catalog)) {
      const whole = chunk.fragment ? await fragments.addChunk(chunk, batch) : wholeChunk(chunk, batch);
      if (whole) chunks.push(whole);
    }
    for (const event of batch.events.filter((event) => event.fragment)) {
      const whole = await fragments.addEvent(event, batch, catalog);
      if (whole) chunks.push(whole);
    }
  }
  return chunks;
}
