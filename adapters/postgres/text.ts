/** Values and names as SQL text. */

/** A text array as a parameter: `textArray(["a", null])` is `{"a",NULL}`. */
export function textArray(values: readonly (string | number | bigint | null)[]): string {
  const element = (value: string | number | bigint | null) =>
    value === null ? "NULL" : `"${String(value).replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
  return `{${values.map(element).join(",")}}`;
}

/** An identifier as SQL quotes it (I10). */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
