/** Direct mode writes into one database what it reads from another: what must be true of the two before it starts. */
import type { DatabaseIdentity } from "../core/admin.ts";
import { ReplicatorError } from "../core/errors.ts";

/** One of the two, as the configuration names it. */
export interface Site extends DatabaseIdentity {
  /** `postgres://user@host:port/name` */
  readonly label: string;
  /** The contour the configuration says it is. */
  readonly expected: string;
}

/** Not by addresses: a pooler, an alias or another port may lead to the same database. @throws ReplicatorError `direct.same_database` */
export function refuseSameDatabase(source: Pick<Site, "label" | "database">, target: Pick<Site, "label" | "database">) {
  if (source.database !== target.database) return;
  throw new ReplicatorError({
    code: "direct.same_database",
    message: `Cannot replicate from ${source.label} to ${target.label}: both lead to the same database (system identifier, start of the server and oid: ${source.database})`,
    retry: "never",
    fault: "input",
    remedy: "Point target.url (TARGET_URL) at another database",
  });
}

/** That the target is the one that was set up for this. A name that is not there yet is the stores' affair. @throws ReplicatorError `direct.wrong_contour` */
export function refuseWrongTarget({ label, contour, expected }: Site): void {
  if (contour === null || contour === expected) return;
  const found = contour === "" ? "has no contour's name yet" : `is contour "${contour}"`;
  throw new ReplicatorError({
    code: "direct.wrong_contour",
    message: `Cannot apply to ${label}: it ${found}, the configuration says target.contour is "${expected}"`,
    retry: "never",
    fault: "input",
    remedy:
      contour === "" ? "replicator setup" : "Point target.url at the target's own database, or correct target.contour",
    facts: { found: contour, expected },
  });
}
