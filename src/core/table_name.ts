/** Names of tables as SQL writes them: `users`, `sales.orders`, `"My Schema"."Order"`. */

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** A name without a schema means this one (interface §2). */
const DEFAULT_SCHEMA = "public";
const PART = /\s*(?:"((?:[^"]|"")+)"|([a-z_\u0080-\uffff][a-z0-9_$\u0080-\uffff]*))\s*(\.|$)/iy;

/** As PostgreSQL reads it: quotes come off, everything else is folded to lower case (ASCII only). Null when it is no name. */
export function parseTableName(text: string): TableName | null {
  const parts: string[] = [];
  PART.lastIndex = 0;
  for (let more = true; more; ) {
    const match = PART.exec(text);
    if (!match) return null;
    const [, quoted, plain = "", end] = match;
    parts.push(quoted?.replaceAll('""', '"') ?? plain.replace(/[A-Z]/g, (letter) => letter.toLowerCase()));
    more = end === ".";
  }
  const name = parts.at(-1);
  if (name === undefined || parts.length > 2) return null;
  return { schema: parts.length === 2 ? (parts[0] ?? DEFAULT_SCHEMA) : DEFAULT_SCHEMA, name };
}

/** Whether two names mean the same table. */
export function sameTable(a: string, b: string): boolean {
  const [left, right] = [parseTableName(a), parseTableName(b)];
  return left !== null && left.schema === right?.schema && left.name === right.name;
}
