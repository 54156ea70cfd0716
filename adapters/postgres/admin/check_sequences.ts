/** Where several contours write: sequences that give values another contour may give too. */
import type { Finding } from "../../../src/core/admin.ts";
import { sqlState } from "../errors.ts";
import type { CheckContext } from "./check_context.ts";

type SequenceRow = Readonly<
  Record<"sequence" | "feeds" | "table_name" | "problem", string> & Record<"statement" | "hint", string | null>
>;

/** The slot of this contour is its place among all, in the order of their names: alike at every contour. */
export async function checkSequences({ db, expected, signal }: CheckContext): Promise<readonly Finding[]> {
  const { contour, contours } = expected;
  if (contours.length < 2) return [];
  const [place, of] = [contours.indexOf(contour) + 1, contours.length];
  try {
    const rows = await db.query<SequenceRow>(
      db.ours('SELECT * FROM "replicator".sequence_findings($1::text::int, $2::text::int)'),
      [place, of],
      { action: "look at the sequences of the tables", signal },
    );
    return rows.map(({ sequence, feeds, table_name: table, problem, statement, hint }) => ({
      severity: "warning",
      code: "tables.sequence",
      message: `Sequence ${sequence}, which feeds ${feeds}, may give values that another contour gives too: ${problem}, and slot ${place}/${of} is that of "${contour}"`,
      remedy: statement
        ? `${statement}; -- or, also while it is written: replicator tables add ${table} --sequence-slot ${place}/${of}`
        : (hint ?? ""),
    }));
  } catch (error) {
    // The owner's to see, as the notes are, which say so.
    if (sqlState(error) !== "42501") throw error;
    return [];
  }
}
