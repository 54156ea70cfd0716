/**
 * Where the members of a JSON object stand, without reading their values (I7): what columns a row has, and which slice
 * of an event is its row. One pass, strings are skipped by indexOf.
 */

export interface Member {
  readonly start: number;
  /** One past the last character of the value. */
  readonly end: number;
}

/** Top-level members of the object that starts at `from`. @throws SyntaxError when it is no JSON object */
export function jsonMembers(text: string, from = 0): Map<string, Member> {
  const members = new Map<string, Member>();
  let at = skipSpace(text, from);
  if (text[at] !== "{") throw new SyntaxError("expected a JSON object");
  at = skipSpace(text, at + 1);
  if (text[at] === "}") return members;
  for (;;) {
    const keyEnd = skipString(text, at);
    const raw = text.slice(at + 1, keyEnd - 1);
    const name = raw.includes("\\") ? String(JSON.parse(`"${raw}"`)) : raw;
    at = skipSpace(text, keyEnd);
    if (text[at] !== ":") throw new SyntaxError("expected a colon after a JSON key");
    const start = skipSpace(text, at + 1);
    const end = skipValue(text, start);
    members.set(name, { start, end });
    at = skipSpace(text, end);
    if (text[at] === "}") return members;
    if (text[at] !== ",") throw new SyntaxError("expected a comma or the end of a JSON object");
    at = skipSpace(text, at + 1);
  }
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text.charCodeAt(at) <= 32) at++;
  return at;
}

function skipString(text: string, from: number): number {
  if (text[from] !== '"') throw new SyntaxError("expected a JSON string");
  for (let at = text.indexOf('"', from + 1); at >= 0; at = text.indexOf('"', at + 1)) {
    let backslashes = 0;
    while (text[at - 1 - backslashes] === "\\") backslashes++;
    if (backslashes % 2 === 0) return at + 1;
  }
  throw new SyntaxError("unterminated JSON string");
}

function skipValue(text: string, from: number): number {
  const first = text[from];
  if (first === '"') return skipString(text, from);
  if (first === "{" || first === "[") return skipNested(text, from);
  let at = from;
  while (at < text.length && !",}] \n\r\t".includes(text[at] as string)) at++;
  if (at === from) throw new SyntaxError("expected a JSON value");
  return at;
}

function skipNested(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; ) {
    const char = text[at];
    if (char === '"') {
      at = skipString(text, at);
      continue;
    }
    if (char === "{" || char === "[") depth++;
    if (char === "}" || char === "]") depth--;
    at++;
    if (depth === 0) return at;
  }
  throw new SyntaxError("unterminated JSON value");
}
