/** Equality of tables by hashes of what they hold. */
import { type Database, quoteIdentifier } from "../../../adapters/postgres/connection.ts";

export interface Proof {
  readonly equal: boolean;
  readonly tables: readonly { readonly table: string; readonly sides: readonly TableSide[] }[];
}

export interface TableSide {
  readonly contour: string;
  readonly rows: number;
  /** MD5 over all rows as PostgreSQL text, in the order of that text. */
  readonly hash: string;
}

export async function compare(
  sites: readonly { readonly contour: string; readonly database: Database }[],
  tables: readonly string[],
): Promise<Proof> {
  const compared = [];
  let equal = true;
  for (const table of tables) {
    const sides = await Promise.all(sites.map(({ contour, database }) => sideOf(contour, database, table)));
    compared.push({ table, sides });
    equal &&= sides.every(({ rows, hash }) => rows === sides[0]?.rows && hash === sides[0].hash);
  }
  return { equal, tables: compared };
}

async function sideOf(contour: string, database: Database, table: string): Promise<TableSide> {
  const [row] = await database.query<{ rows: string; hash: string }>(
    `SELECT count(*) AS rows, md5(coalesce(string_agg(md5(line), '' ORDER BY line COLLATE "C"), '')) AS hash
       FROM (SELECT (r.*)::text AS line FROM public.${quoteIdentifier(table)} r) lines`,
  );
  return { contour, rows: Number(row?.rows ?? 0), hash: row?.hash ?? "" };
}

/** The proof as a person reads it. */
export function proofText(proof: Proof): string {
  const lines = proof.tables.flatMap(({ table, sides }) => [
    table,
    ...sides.map(({ contour, rows, hash }) => `  contour ${contour}: ${String(rows).padStart(8)} rows   md5 ${hash}`),
  ]);
  return [...lines, proof.equal ? "Both contours are equal." : "The contours DIFFER."].join("\n");
}
