/** Reads docs/source_designs.md: its sections with a number, their blocks of code, and the rows of their tables. */

export interface Check {
  readonly kind: string;
  readonly argument: string;
}

export interface PageRow {
  readonly what: string;
  readonly here: string;
  readonly checks: readonly Check[];
}

export interface Section {
  /** `1. Kafka replicator (README)` */
  readonly title: string;
  readonly sql: readonly string[];
  readonly yaml: readonly string[];
  readonly rows: readonly PageRow[];
}

export function designsOf(page: string): readonly Section[] {
  return page
    .split(/^## /m)
    .filter((part) => /^\d\. /.test(part))
    .map((part) => ({
      title: part.slice(0, part.indexOf("\n")),
      sql: blocks(part, "sql"),
      yaml: blocks(part, "yaml"),
      rows: part
        .split("\n")
        .filter((line) => line.startsWith("| ") && !line.startsWith("| what is shown"))
        .map(row),
    }));
}

function blocks(text: string, language: string): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map(([, code = ""]) => code);
}

function row(line: string): PageRow {
  const cells = line.split(/ \| /);
  if (cells.length !== 3) throw new Error(`A row of three cells was expected, found ${cells.length}: ${line}`);
  const [what = "", here = "", checked = ""] = cells.map((cell) => cell.replace(/^\| | \|$/g, ""));
  const checks = [...checked.matchAll(/`(\w+): ([^`]+)`/g)].map(([, kind = "", argument = ""]) => ({ kind, argument }));
  return { what, here, checks };
}
