/**
 * How a column's value is read from the rows' JSON. PostgreSQL rounds to a type's precision without a word, so a value that
 * another contour holds in a finer type would lose digits here (I5 I7): such a value is refused like one that is out of
 * range, and waits until the type is given. Costs a comparison, for types that have a precision only.
 */
import type { Column } from "./catalog/catalog.ts";

export interface Reading {
  /** The column's type in json_to_recordset. */
  readonly as: string;
  /** SQL of the value from SQL of what was read; fails with 22007 or 22P02 where the type cannot hold it. */
  value(read: string): string;
}

/** `numeric(10,2)`, `timestamp(0) without time zone`, `interval(3)`, `interval year to month` … */
const WITH_PRECISION = /^(?:(?:numeric|time|timestamp|interval)\b.*\(\d|interval )/;

export function readingOf({ type, json }: Column): Reading {
  // As json it would be taken for JSON itself.
  if (json) return { as: "text", value: (read) => `${read}::${type}` };
  if (WITH_PRECISION.test(type)) {
    const whole = type.startsWith("interval") ? "interval" : type.replace(/\([\d,-]+\)/, "");
    return { as: whole, value: (read) => unless(`${read} = ${read}::${type}`, read, type, whole) };
  }
  if (type === "date") return { as: "text", value: (read) => unless(`strpos(${read}, ':') = 0`, read, type, type) };
  if (type === "real") {
    // Equal as text where the source has a real as well.
    const kept = (read: string) => `${read}::real::text = ${read} OR ${read}::real::text::numeric = ${read}::numeric`;
    return { as: "text", value: (read) => unless(kept(read), read, type, type) };
  }
  return { as: type, value: (read) => read };
}

/** NULL stays NULL: it comes to the second branch, where it makes a NULL. */
function unless(fits: string, read: string, type: string, whole: string): string {
  return `CASE WHEN ${fits} THEN ${read}::${type} ELSE (${read} || ' does not fit ${type}')::${whole} END`;
}
