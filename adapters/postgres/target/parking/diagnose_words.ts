/** SQL expressions that put names and types into words (diagnose.ts). */

/** A name as SQL writes it; schema public goes without saying. Two SQL expressions of type text or name. */
export function named(schema: string, name: string): string {
  return `(CASE WHEN ${schema} = 'public' THEN '' ELSE quote_ident(${schema}) || '.' END || quote_ident(${name}))`;
}

/** A type that takes a JSON value as it came: the source's own is not on the wire. */
export function likelyType(value: string): string {
  return `(CASE json_typeof(${value})
      WHEN 'number' THEN CASE WHEN (${value})::text ~ '^-?[0-9]{1,18}$' THEN 'bigint' ELSE 'numeric' END
      WHEN 'boolean' THEN 'boolean' WHEN 'object' THEN 'jsonb' WHEN 'array' THEN 'jsonb' ELSE 'text' END)`;
}
