/** Loads a configuration out of texts: no file system, no process environment. */
import { type Loaded, type LoadOptions, loadConfig } from "../../../src/config/load.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";

export const RUN = { contour: true, database: true, broker: true, run: true } as const;

/** The least that runs. */
export const BASE = {
  SERVICE_CONTOUR: "active",
  DATABASE_URL: "postgres://replicator@db/app",
  BROKER: "memory",
} as const;

export interface Texts extends Omit<LoadOptions, "environment" | "readFile" | "file"> {
  readonly yaml?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly files?: Readonly<Record<string, string>>;
}

export function load(texts: Texts): Loaded {
  const { yaml, environment = {}, files = {}, ...rest } = texts;
  const all: Readonly<Record<string, string>> = { ...files, ...(yaml !== undefined && { "r.yaml": yaml }) };
  return loadConfig({
    ...rest,
    file: yaml === undefined ? undefined : "r.yaml",
    environment,
    readFile: (path) => {
      const text = all[path];
      if (text === undefined) throw Object.assign(new Error(`ENOENT: ${path}`), { code: "ENOENT" });
      return text;
    },
  });
}

/** The lines of problems of a configuration that must be refused. */
export function problems(texts: Texts): string[] {
  try {
    load(texts);
  } catch (error) {
    if (!(error instanceof ReplicatorError)) throw error;
    return error.message
      .split("\n")
      .slice(1)
      .map((line) => line.trim());
  }
  throw new Error("The configuration was accepted");
}
