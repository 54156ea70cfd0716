/** Puts the environment and the flags over what the file says: default < file < environment < flag (interface §1). */
import { type DeclaredItems, type DeclaredValue, declaredAt, declaredKeys, environmentName } from "./declared.ts";
import { nearest } from "./nearest.ts";
import { type Origin, type Problem, type RawMap, setRaw } from "./raw.ts";
import type { Environment } from "./yaml_source.ts";

/** A key given on the command line. */
export interface FlagValue {
  /** As typed, for messages: `--broker`. */
  readonly flag: string;
  /** `kafka.topic.partitions`. */
  readonly path: string;
  readonly value: string;
}

/** Every environment name and the key it sets. */
export function environmentNames(): readonly { readonly name: string; readonly key: DeclaredValue | DeclaredItems }[] {
  return declaredKeys().flatMap((key) =>
    // The long name comes last: it wins over a short one that sets several keys.
    [...(key.meta.aliases ?? []), environmentName(key.path)].map((name) => ({ name, key })),
  );
}

/** An empty variable counts as not set: that is how compose files pass what is absent. */
export function applyEnvironment(root: RawMap, environment: Environment): void {
  for (const { name, key } of environmentNames()) {
    const value = environment[name];
    if (!value) continue;
    const isAlias = name !== environmentName(key.path);
    const text = isAlias && key.meta.seconds && /^\d+(\.\d+)?$/.test(value) ? `${value}s` : value;
    setRaw(root, key.path, { kind: "text", text, origin: { from: "environment", name } });
  }
}

export function applyFlags(root: RawMap, flags: readonly FlagValue[], problems: Problem[]): void {
  const known = declaredKeys().map((key) => key.path.join("."));
  for (const { flag, path, value } of flags) {
    const origin: Origin = { from: "flag", name: flag };
    const steps = path.split(".");
    const key = declaredAt(steps);
    if (key && (key.kind !== "section" || key.scalar)) {
      setRaw(root, steps, { kind: "text", text: value, origin });
    } else {
      const meant = nearest(path, known);
      const hint = meant ? `; did you mean ${meant}?` : "";
      problems.push({ origin, path, message: `is no key of the configuration${hint}` });
    }
  }
}
