/** A YAML file as raw texts with lines; `${VAR}` and `${VAR:-default}` expanded in its values. */
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, type ParsedNode, parseDocument } from "yaml";
import { type Problem, pathText, type RawMap, type RawNode, type RawPath } from "./raw.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface YamlSource {
  /** As it appears in messages. */
  readonly file: string;
  readonly text: string;
  readonly environment: Environment;
}

/** Problems are added to `problems`; what could be read is returned all the same, so that all are found at once. */
export function readYaml(source: YamlSource, problems: Problem[]): RawMap {
  const lines = new LineCounter();
  const document = parseDocument(source.text, { lineCounter: lines, prettyErrors: false });
  for (const error of document.errors) {
    const line = lines.linePos(error.pos[0]).line;
    const written = source.text.split("\n")[line - 1] ?? "";
    const hint = /[[{,].*\$\{/.test(written) ? `; inside [ ] and { } a "$\{…}" needs quotes` : "";
    problems.push({
      origin: { from: "file", file: source.file, line },
      path: "",
      message: `is no YAML: ${error.message}${hint}`,
    });
  }
  const lineOf = (node: Node | null | undefined, otherwise: number) =>
    node?.range ? lines.linePos(node.range[0]).line : otherwise;

  const convert = (node: ParsedNode | null, path: RawPath, line: number): RawNode | null => {
    const origin = { from: "file", file: source.file, line: lineOf(node, line) } as const;
    if (isAlias(node)) {
      const target = node.resolve(document);
      return target ? convert(target as ParsedNode, path, origin.line) : null;
    }
    if (isMap(node)) {
      const entries: RawMap["entries"] = new Map();
      for (const pair of node.items) {
        const key = isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
        const value = convert(pair.value as ParsedNode | null, [...path, key], lineOf(pair.key as Node, origin.line));
        // The line of the key is what a person looks for.
        if (value)
          entries.set(
            key,
            value.kind === "text"
              ? value
              : { ...value, origin: { ...origin, line: lineOf(pair.key as Node, origin.line) } },
          );
      }
      return { kind: "map", entries, origin };
    }
    if (isSeq(node)) {
      const items = node.items.map((item, at) => convert(item as ParsedNode, [...path, at], origin.line));
      return { kind: "list", items: items.filter((item) => item !== null), origin };
    }
    if (!isScalar(node) || node.value === null) return null;
    // The text as written: 0123 stays a password of four digits, `off` stays a word.
    const written = node.type === "PLAIN" && node.source !== undefined ? node.source : String(node.value);
    const { text, missing } = expand(written, source.environment);
    for (const name of missing) {
      problems.push({
        origin,
        path: pathText(path),
        message: `the environment variable ${name} is not set, expected it to be or a default: \${${name}:-default}`,
      });
    }
    // An empty text counts as not set, like an empty environment variable.
    return missing.length > 0 || text === "" ? null : { kind: "text", text, origin };
  };

  const root = convert(document.contents, [], 1);
  if (root?.kind === "map") return root;
  const empty: RawMap = { kind: "map", entries: new Map(), origin: { from: "file", file: source.file, line: 1 } };
  if (root && document.errors.length === 0) {
    problems.push({
      origin: root.origin,
      path: "",
      message: "found no map of keys, expected one such as service: { contour: active }",
    });
  }
  return empty;
}

/** `$${` stands for `${` itself. An empty variable counts as unset where a default is given, as in a shell's `:-`. */
export function expand(text: string, environment: Environment): { text: string; missing: string[] } {
  const missing: string[] = [];
  const expanded = text.replace(
    /\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}/g,
    (
      _whole,
      escaped: string | undefined,
      name: string,
      hasDefault: string | undefined,
      otherwise: string | undefined,
    ) => {
      if (escaped) return escaped;
      const value = environment[name];
      if (hasDefault !== undefined) return value || (otherwise ?? "");
      if (value === undefined) missing.push(name);
      return value ?? "";
    },
  );
  return { text: expanded, missing };
}
