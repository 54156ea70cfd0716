/** Under which names the row of an event carries its stamp (docs/wire.md). */

export type StampNames = readonly [string, string, string];

/** What an event means that says nothing. */
export const DEFAULT_STAMP: StampNames = ["version", "updated_at", "updated_by"];

/**
 * @param said the body's member "stamp" as JSON; null where it has none
 * @param here what the table's stamp columns are called here; undefined when there is no such table
 * @param carries whether the row has a member of this name
 * @throws SyntaxError when "stamp" is not three names
 */
export function eventStamp(
  said: string | null,
  here: StampNames | undefined,
  carries: (name: string) => boolean,
): StampNames {
  if (said !== null) return namesIn(said);
  if (!here || same(here, DEFAULT_STAMP)) return DEFAULT_STAMP;
  // Version 0.1.0 never says: it needs the same names at both contours. Goes with the last release that reads its events.
  return DEFAULT_STAMP.every(carries) ? DEFAULT_STAMP : here;
}

function namesIn(json: string): StampNames {
  const names: unknown = JSON.parse(json);
  if (!Array.isArray(names) || names.length !== 3) throw new SyntaxError(`expected three names, found ${json}`);
  const [version, updatedAt, updatedBy]: readonly unknown[] = names;
  if (typeof version !== "string" || typeof updatedAt !== "string" || typeof updatedBy !== "string")
    throw new SyntaxError(`expected three names, found ${json}`);
  return [version, updatedAt, updatedBy];
}

function same(a: StampNames, b: StampNames): boolean {
  return a.every((name, place) => name === b[place]);
}
