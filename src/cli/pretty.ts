/** A log line for a person: time, level, message, then the facts. Done in place: pino-pretty's worker does not survive compiling. */

const COLOURS: Readonly<Record<string, string>> = { debug: "90", info: "36", warn: "33", error: "31" };
const HIDDEN_FACTS = new Set(["level", "time", "message", "service", "contour"]);

/** @param json one line as pino writes it; a line that does not parse comes out as it went in */
export function prettyLine(json: string, colour: boolean): string {
  const facts = parse(json);
  if (!facts) return json;
  const level = String(facts.level);
  const time = String(facts.time).slice(11, 23);
  const rest = Object.entries(facts)
    .filter(([name, value]) => !HIDDEN_FACTS.has(name) && value !== undefined)
    .map(([name, value]) => `${name}=${shown(value)}`)
    .join(" ");
  const painted = colour ? `\u001b[${COLOURS[level] ?? "0"}m${level.padEnd(5)}\u001b[0m` : level.padEnd(5);
  const dimmed = rest === "" ? "" : colour ? `  \u001b[90m${rest}\u001b[0m` : `  ${rest}`;
  return `${time} ${painted} ${String(facts.message)}${dimmed}\n`;
}

function parse(json: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null ? { ...value } : null;
  } catch {
    // Not ours to judge: shown as it is.
    return null;
  }
}

function shown(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return typeof value === "string" && /[\s"=]/.test(text) ? JSON.stringify(text) : text;
}
