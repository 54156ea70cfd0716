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

/** A table's or type's name as SQL writes it, for people; schema public goes without saying. */
export function writtenName(schema: string, name: string): string {
  return schema === "public" ? writtenIdentifier(name) : `${writtenIdentifier(schema)}.${writtenIdentifier(name)}`;
}

/** An identifier as SQL writes it: quoted only where it must be. */
export function writtenIdentifier(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : quoteIdentifier(name);
}
