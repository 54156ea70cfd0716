/** When a mesh of contours has come to rest. */
import { until } from "../support/until.ts";
import type { Contour } from "./harness.ts";

/**
 * Waits until nothing is on its way any more: all is published, nothing is parked, and nobody captures or applies anything.
 * @throws Error with what is parked and the ends of the logs
 */
export async function untilSettled(contours: readonly Contour[], timeoutMs = 60_000): Promise<void> {
  let before = "";
  await until(
    "all is published and applied, and nobody writes any more",
    async () => {
      const states = await Promise.all(
        contours.map(async ({ sql }) => {
          const [row] = await sql`SELECT (SELECT count(*) FROM replication_queue WHERE NOT published)::int AS waiting,
            (SELECT count(*) FROM inbox)::int AS parked, (SELECT count(*) FROM replication_queue)::int AS captured,
            (SELECT coalesce(sum(sequence), 0) FROM (SELECT ledger_id, max(sequence) AS sequence FROM replicator.applied GROUP BY 1) s)::int AS applied`;
          return row;
        }),
      );
      const now = JSON.stringify(states);
      const still = now === before && states.every((state) => state?.waiting === 0 && state.parked === 0);
      before = now;
      return still || now;
    },
    timeoutMs,
  ).catch(async (error: unknown) => {
    const parked = await Promise.all(
      contours.map(
        ({ sql }) => sql`SELECT source_contour, table_name, operation, record_id, version, error_code, attempts,
        age(clock_timestamp(), created_at)::text AS age, (next_attempt_at - clock_timestamp())::text AS due,
        left(data, 200) AS data FROM inbox ORDER BY id LIMIT 20`,
      ),
    );
    throw new Error(
      `${String(error)}\n${JSON.stringify(parked, null, 1)}\n${contours.map((contour) => contour.logs()).join("\n")}`,
    );
  });
}
