/** Reads the declarations of src/config/schema.ts back as a tree: what help, environment, messages and the example derive from. */
import { z } from "zod";
import { type OptionMeta, optionMeta } from "./leaf.ts";
import { fileSchema } from "./schema.ts";

export type ValueType = "text" | "number" | "boolean" | "list";

/** A key that holds one value (lists of texts included). */
export interface DeclaredValue {
  readonly kind: "value";
  readonly path: readonly string[];
  readonly type: ValueType;
  readonly meta: OptionMeta;
  /** As it would be written in YAML; null when there is none. */
  readonly defaultText: string | null;
  readonly required: boolean;
}

/** A key that holds further keys; `scalar` when a single value may stand in their place (`ssl: true`). */
export interface DeclaredSection {
  readonly kind: "section";
  readonly path: readonly string[];
  readonly fields: ReadonlyMap<string, Declared>;
  readonly scalar: DeclaredValue | null;
  /** Whether it stands in the file at all says something. */
  readonly optional: boolean;
}

/** A list of maps. */
export interface DeclaredItems {
  readonly kind: "items";
  readonly path: readonly string[];
  readonly meta: OptionMeta;
  readonly item: DeclaredSection;
}

export type Declared = DeclaredValue | DeclaredSection | DeclaredItems;

/** The whole configuration. */
export const declared: DeclaredSection = section([], fileSchema, null, false);

/** Every value outside lists of maps, and every list of maps, in the order of declaration. */
export function declaredKeys(root: DeclaredSection = declared): readonly (DeclaredValue | DeclaredItems)[] {
  return [...root.fields.values()].flatMap((field) =>
    field.kind === "section" ? [...(field.scalar ? [field.scalar] : []), ...declaredKeys(field)] : [field],
  );
}

/** The declaration at a path; indexes of lists are passed over. */
export function declaredAt(path: readonly (string | number)[]): Declared | null {
  let here: Declared = declared;
  for (const step of path) {
    if (typeof step === "number") continue;
    const inside: DeclaredSection | null = here.kind === "section" ? here : here.kind === "items" ? here.item : null;
    const next: Declared | undefined = inside?.fields.get(step);
    if (!next) return null;
    here = next;
  }
  return here;
}

/** `kafka.topic.partitions` → `KAFKA_TOPIC_PARTITIONS`. */
export function environmentName(path: readonly string[]): string {
  return path.join("_").toUpperCase();
}

interface Unwrapped {
  readonly core: z.ZodType;
  readonly meta: OptionMeta | null;
  readonly defaultValue: unknown;
  readonly optional: boolean;
}

/** Takes default, optional and transform wrappers off, remembering what they say. */
function unwrap(schema: z.ZodType): Unwrapped {
  let core = schema;
  let meta: OptionMeta | null = null;
  let defaultValue: unknown;
  let optional = false;
  for (;;) {
    meta ??= optionMeta.get(core) ?? null;
    if (core instanceof z.ZodDefault || core instanceof z.ZodPrefault) {
      defaultValue = core.def.defaultValue;
      core = core.def.innerType as z.ZodType;
    } else if (core instanceof z.ZodOptional) {
      optional = true;
      core = core.def.innerType as z.ZodType;
    } else if (core instanceof z.ZodPipe) {
      core = core.def.in as z.ZodType;
    } else {
      return { core, meta, defaultValue, optional };
    }
  }
}

function declare(path: readonly string[], schema: z.ZodType): Declared {
  const { core, meta, defaultValue, optional } = unwrap(schema);
  if (core instanceof z.ZodObject) return section(path, core, null, optional);
  const required = !optional && defaultValue === undefined;
  if (core instanceof z.ZodUnion && meta) {
    const map = core.options.find((branch) => branch instanceof z.ZodObject);
    const scalar = { kind: "value", path, type: "boolean", meta, defaultText: null, required } as const;
    if (map) return section(path, map, scalar, optional);
  }
  if (!meta) throw new Error(`Option ${path.join(".")} has no description`);
  if (core instanceof z.ZodArray) {
    const { core: element } = unwrap(core.element as z.ZodType);
    if (element instanceof z.ZodObject) return { kind: "items", path, meta, item: section(path, element, null, false) };
  }
  return { kind: "value", path, type: typeOf(core, path), meta, defaultText: defaultText(defaultValue), required };
}

function section(
  path: readonly string[],
  schema: z.ZodObject,
  scalar: DeclaredValue | null,
  optional: boolean,
): DeclaredSection {
  const fields = new Map<string, Declared>();
  for (const [name, field] of Object.entries(schema.shape))
    fields.set(name, declare([...path, name], field as z.ZodType));
  return { kind: "section", path, fields, scalar, optional };
}

function typeOf(core: z.ZodType, path: readonly string[]): ValueType {
  if (core instanceof z.ZodArray) return "list";
  if (core instanceof z.ZodNumber) return "number";
  if (core instanceof z.ZodBoolean) return "boolean";
  if (core instanceof z.ZodString || core instanceof z.ZodEnum) return "text";
  throw new Error(`Option ${path.join(".")} is of a kind without a text form`);
}

function defaultText(value: unknown): string | null {
  if (value === undefined) return null;
  return Array.isArray(value) ? `[${value.join(", ")}]` : String(value);
}
