/** The JSON file of a run. */
import { readFileSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { CONDITIONS, type Result } from "./types.ts";
import { UsageError } from "./usage_error.ts";

const number = z.number();
const sample = z.object({
  workload: z.string(),
  condition: z.enum(CONDITIONS),
  contestant: z.string(),
  role: z.enum(["contestant", "yardstick"]),
  round: number,
  metric: z.string(),
  unit: z.enum(["rows/s", "tps", "ms", "s", "MB", "µs/row", "%", "rows"]),
  better: z.enum(["more", "less", "neither"]),
  value: number,
  process: z.string().exactOptional(),
});
const schema: z.ZodType<Result> = z.object({
  format: z.literal(1),
  date: z.string(),
  quick: z.boolean(),
  rounds: number,
  size: z.object({
    rows: number,
    backlog: number,
    rate: number,
    seconds: number,
    idleSeconds: number,
    connections: number,
    accounts: number,
  }),
  machine: z.object({
    processors: number,
    model: z.string(),
    memory_gb: number,
    kernel: z.string(),
    load_before: number,
    versions: z.record(z.string(), z.string()),
    program: z.enum(["binary", "sources"]),
  }),
  yardsticks: z.record(z.string(), z.string()),
  samples: z.array(sample),
  failures: z.array(z.string()),
});

export function writeResult(file: string, result: Result): void {
  writeFileSync(file, `${JSON.stringify(result, null, 1)}\n`);
}

/** @throws UsageError when there is no such file, or it was not written by this bench */
export function readResult(file: string): Result {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`Cannot read "${file}": ${error instanceof Error ? error.message : String(error)}`);
  }
  const parsed = schema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new UsageError(
    `"${file}" is no result of this bench: ${issue?.path.join(".") || "the file"}: ${issue?.message}`,
  );
}

/** Undefined when it is no JSON: the schema then says so. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
