/** The configuration before it is checked: texts with where each was found, from files, environment and flags alike. */
import type { Declared, DeclaredSection } from "./declared.ts";

export type Origin =
  | { readonly from: "file"; readonly file: string; readonly line: number }
  | { readonly from: "environment"; readonly name: string }
  | { readonly from: "flag"; readonly name: string };

export interface RawText {
  readonly kind: "text";
  readonly text: string;
  readonly origin: Origin;
}

export interface RawList {
  readonly kind: "list";
  readonly items: readonly RawNode[];
  readonly origin: Origin;
}

export interface RawMap {
  readonly kind: "map";
  /** A key without a value is not here: it counts as not set. */
  readonly entries: Map<string, RawNode>;
  readonly origin: Origin;
}

export type RawNode = RawText | RawList | RawMap;
export type RawPath = readonly (string | number)[];

export interface Problem {
  /** Null for what concerns the whole configuration. */
  readonly origin: Origin | null;
  readonly path: string;
  /** What was found and what is expected. */
  readonly message: string;
}

export function describeOrigin(origin: Origin): string {
  switch (origin.from) {
    case "file":
      return `${origin.file}:${origin.line}`;
    case "environment":
      return `environment ${origin.name}`;
    case "flag":
      return `flag ${origin.name}`;
  }
}

/** `critical_tables[0].name`. */
export function pathText(path: RawPath): string {
  return path.map((step, at) => (typeof step === "number" ? `[${step}]` : at === 0 ? step : `.${step}`)).join("");
}

/** The node at a path, or undefined. */
export function rawAt(root: RawNode, path: RawPath): RawNode | undefined {
  let here: RawNode | undefined = root;
  for (const step of path) {
    if (here?.kind === "map" && typeof step === "string") here = here.entries.get(step);
    else if (here?.kind === "list" && typeof step === "number") here = here.items[step];
    else return undefined;
  }
  return here;
}

/** Where a path was set, or the nearest thing around it. */
export function originAt(root: RawNode, path: RawPath): Origin | null {
  for (let length = path.length; length > 0; length--) {
    const node = rawAt(root, path.slice(0, length));
    if (node) return node.origin;
  }
  return null;
}

/** Sets a value, over whatever stood there: the later layer wins. */
export function setRaw(root: RawMap, path: readonly string[], value: RawNode): void {
  let here = root;
  for (const step of path.slice(0, -1)) {
    const inside = here.entries.get(step);
    if (inside?.kind === "map") {
      here = inside;
    } else {
      const made: RawMap = { kind: "map", entries: new Map(), origin: value.origin };
      here.entries.set(step, made);
      here = made;
    }
  }
  const last = path.at(-1);
  if (last !== undefined) here.entries.set(last, value);
}

/** The natural JavaScript value for the schema: texts become what the declaration says where they can, else stay texts. */
export function toInput(node: RawNode, declared: Declared | null): unknown {
  switch (node.kind) {
    case "map":
      return mapInput(node, declared);
    case "list":
      return node.items.map((item) => toInput(item, declared?.kind === "items" ? declared.item : null));
    case "text":
      return textInput(node, declared);
  }
}

function mapInput(node: RawMap, declared: Declared | null): Record<string, unknown> {
  const section: DeclaredSection | null = declared?.kind === "section" ? declared : null;
  const made: Record<string, unknown> = {};
  for (const [name, child] of node.entries) made[name] = toInput(child, section?.fields.get(name) ?? null);
  return made;
}

function textInput({ text }: RawText, declared: Declared | null): unknown {
  if (declared?.kind === "items") {
    // In the environment a list of tables is a list of their names.
    return splitList(text).map((name) => ({ name }));
  }
  const value = declared?.kind === "section" ? declared.scalar : declared;
  switch (value?.type) {
    case "number":
      return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
    case "boolean":
      return text === "true" ? true : text === "false" ? false : text;
    case "list":
      return splitList(text);
    default:
      return text;
  }
}

function splitList(text: string): string[] {
  return text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}
