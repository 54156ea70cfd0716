/** The generated part of docs/benchmarks.md. */
import { readFileSync, writeFileSync } from "node:fs";
import { notesOf } from "./notes.ts";
import { sectionsOf } from "./report.ts";
import { markdownTable } from "./text_table.ts";
import type { Result } from "./types.ts";
import { UsageError } from "./usage_error.ts";

const BEGIN = "<!-- figures: begin, written by `bun run bench --write-doc` -->";
const END = "<!-- figures: end -->";

/** Replaces what stands between the markers. @throws UsageError for a quick result, or a page without the markers */
export function writeDoc(file: string, result: Result): void {
  writeFileSync(file, withFigures(readFileSync(file, "utf8"), result));
}

/** @throws UsageError for a quick result, or a page without the markers */
export function withFigures(page: string, result: Result): string {
  if (result.quick)
    throw new UsageError("A --quick run measures nothing: its figures do not go into the documentation");
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new UsageError(`The page has no lines "${BEGIN}" and "${END}" in this order`);
  return `${page.slice(0, begin + BEGIN.length)}\n\n${figures(result)}\n\n${page.slice(end)}`;
}

function figures(result: Result): string {
  const { machine, size, rounds, date } = result;
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version}`);
  const facts = [
    `Measured on ${date.slice(0, 10)} on ${machine.processors} × ${machine.model}, ${machine.memory_gb} GB of memory,`,
    `Linux ${machine.kernel}, load average before the run ${machine.load_before}. ${versions.join(", ")}. The replicators were`,
    `${machine.program === "binary" ? "the compiled program" : "the sources under Bun"}. ${rounds} rounds; bulk statements of`,
    `${size.rows.toLocaleString("en")} rows, a backlog of ${size.backlog.toLocaleString("en")} rows, loads of ${size.seconds} s,`,
    `${size.rate.toLocaleString("en")} changes/s of the steady load, ${size.connections} connections, idle for ${size.idleSeconds} s.`,
  ].join("\n");
  const notes = notesOf(result)
    .map((note) => `* ${note}`)
    .join("\n");
  const sections = sectionsOf(result);
  // The verdicts are what most readers come for.
  const ordered = [...sections.slice(-1), ...sections.slice(0, -1)];
  return [
    facts,
    ...(notes ? [notes] : []),
    ...ordered.map(({ title, head, rows }) => `### ${title}\n\n${markdownTable(head, rows)}`),
  ].join("\n\n");
}
