/** From file, environment and flags to a checked configuration; every problem is found before any is reported. */
import { readFileSync } from "node:fs";
import { ReplicatorError } from "../core/errors.ts";
import type { Config } from "./config.ts";
import { declared, declaredKeys } from "./declared.ts";
import { applyEnvironment, applyFlags, type FlagValue } from "./layers.ts";
import { readPemFiles } from "./pem.ts";
import { describeOrigin, type Problem, type RawMap, rawAt, toInput } from "./raw.ts";
import { urlSecrets } from "./redact.ts";
import { type Needs, ruleProblems } from "./rules.ts";
import { type FileConfig, fileSchema, ROLES, type Role } from "./schema.ts";
import { periodicTopic } from "./tables.ts";
import { problemsOf } from "./verdict.ts";
import { type Environment, readYaml } from "./yaml_source.ts";

/** Read from the working directory when no file is named. */
export const DEFAULT_FILE = "replicator.yaml";

export interface LoadOptions {
  /** `--config`; else REPLICATOR_CONFIG, else replicator.yaml where it exists. */
  readonly file?: string | undefined;
  readonly environment: Environment;
  readonly flags?: readonly FlagValue[];
  readonly needs?: Needs;
  /** For tests. */
  readonly readFile?: (path: string) => string;
}

export interface Loaded {
  readonly config: Config;
  /** The file read, or null. */
  readonly file: string | null;
  /** What must never be shown. */
  readonly secrets: readonly string[];
  /** Where each key was set, for `config show`. */
  readonly raw: RawMap;
}

/** @throws ReplicatorError `config.invalid` that lists every problem */
export function loadConfig(options: LoadOptions): Loaded {
  const problems: Problem[] = [];
  const readFile = options.readFile ?? ((path: string) => readFileSync(path, "utf8"));
  const needs = options.needs ?? {};
  const { file, raw } = readSource(options, readFile, problems);
  // What stands in a file that is no YAML is not known: judging the rest of it would mislead.
  if (problems.some(({ path }) => path === "")) throw invalid(problems);
  applyEnvironment(raw, options.environment);
  applyFlags(raw, options.flags ?? [], problems);

  const input = toInput(raw, declared);
  const parsed = fileSchema.safeParse(input);
  if (!parsed.success) problems.push(...problemsOf(parsed.error.issues, raw, input));
  problems.push(...ruleProblems(raw, needs));
  const complete = parsed.success ? readPemFiles(parsed.data, raw, readFile, problems) : null;
  if (!complete || problems.length > 0) throw invalid(problems);
  return { config: finish(complete, needs), file, secrets: secretsOf(raw), raw };
}

function readSource(options: LoadOptions, readFile: (path: string) => string, problems: Problem[]) {
  const { environment } = options;
  const named = options.file ?? (environment.REPLICATOR_CONFIG || undefined);
  const file = named ?? DEFAULT_FILE;
  const nothing: RawMap = { kind: "map", entries: new Map(), origin: { from: "file", file, line: 1 } };
  try {
    const text = readFile(file);
    return { file, raw: readYaml({ file, text, environment }, problems) };
  } catch (error) {
    const missing = error instanceof Error && Reflect.get(error, "code") === "ENOENT";
    if (named === undefined && missing) return { file: null, raw: nothing };
    const reason = missing ? "there is no such file" : String(error instanceof Error ? error.message : error);
    // Alone: what its absence makes missing would only hide it.
    throw new ReplicatorError({
      code: "config.unreadable",
      message: `Cannot read the configuration file "${file}": ${reason}`,
      retry: "never",
      fault: "input",
      remedy: "Name it with --config or REPLICATOR_CONFIG; an example: config/replicator.example.yaml",
      cause: error,
    });
  }
}

function finish(file: FileConfig, needs: Needs): Config {
  const { role, broker, service, ...rest } = file;
  const contour = service.contour ?? "";
  // Direct mode has one source, this contour, and needs both roles.
  const consumer = file.target ? { ...file.consumer, from: [contour] } : file.consumer;
  const hasWork: Readonly<Record<Role, boolean>> = {
    publisher: true,
    consumer: consumer.from.length > 0,
    sync: rest.non_critical_tables.length > 0,
  };
  const roles = ROLES.filter((one) => role.includes(one) || (role.includes("all") && hasWork[one]));
  return {
    ...rest,
    roles: needs.run ? roles : [],
    broker: file.target ? "direct" : (broker ?? "memory"),
    service: { ...service, contour },
    non_critical_tables: rest.non_critical_tables.map((table) => ({
      ...table,
      topic: table.topic ?? periodicTopic(table.name),
    })),
    consumer: { ...consumer, group: consumer.group ?? `replicator-consumer-${contour}` },
  };
}

/** Secrets as configured, so that a message of some library cannot show them either. */
function secretsOf(raw: RawMap): string[] {
  const found: string[] = [];
  for (const key of declaredKeys()) {
    const node = rawAt(raw, key.path);
    const texts =
      node?.kind === "text"
        ? [node.text]
        : node?.kind === "list"
          ? node.items.flatMap((item) => (item.kind === "text" ? [item.text] : []))
          : [];
    for (const text of texts) found.push(...(key.meta.secret ? [text] : text.split(",").flatMap(urlSecrets)));
  }
  return found;
}

function invalid(problems: readonly Problem[]): ReplicatorError {
  const lines = reported(problems);
  const count = lines.length === 1 ? "a problem" : `${lines.length} problems`;
  return new ReplicatorError({
    code: "config.invalid",
    message: `The configuration has ${count}:\n${lines.map((line) => `  ${line}`).join("\n")}`,
    retry: "never",
    fault: "input",
    remedy: "Every key: replicator config schema",
    facts: { problems: lines.length },
  });
}

/** One line each, in the order of the file; only the first about a key. */
function reported(problems: readonly Problem[]): string[] {
  const seen = new Set<string>();
  const kept = problems.filter(({ path }) => path === "" || (!seen.has(path) && seen.add(path)));
  const line = ({ origin }: Problem) => (origin?.from === "file" ? origin.line : Number.MAX_SAFE_INTEGER);
  return [...kept]
    .sort((a, b) => line(a) - line(b))
    .map(({ origin, path, message }) => {
      return [origin ? describeOrigin(origin) : null, path, message].filter((part) => part).join(": ");
    });
}
