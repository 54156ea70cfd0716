/** The JSON Schema and the documented example: both derived from the declarations, kept in config/ and compared in a test. */
import { z } from "zod";
import { type Declared, type DeclaredSection, type DeclaredValue, declared, environmentName } from "./declared.ts";
import { fileSchema } from "./schema.ts";

/** For editors and CI: what a configuration file may hold. */
export function jsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(fileSchema, {
    io: "input",
    override: ({ jsonSchema }) => {
      const isLeaf = jsonSchema.type !== "object" && jsonSchema.properties === undefined;
      const restricted =
        jsonSchema.pattern !== undefined || jsonSchema.enum !== undefined || jsonSchema.type !== "string";
      if (!isLeaf || !restricted || jsonSchema.anyOf !== undefined) return;
      // Every value may also be written "${VAR}" or "${VAR:-default}", a list also as "a,b".
      const { description, default: otherwise, ...own } = jsonSchema;
      const text =
        jsonSchema.type === "array" ? { type: "string" as const } : { type: "string" as const, pattern: "\\$\\{" };
      for (const key of Object.keys(jsonSchema)) Reflect.deleteProperty(jsonSchema, key);
      Object.assign(jsonSchema, {
        ...(description && { description }),
        ...(otherwise !== undefined && { default: otherwise }),
        anyOf: [own, text],
      });
    },
  });
  const { $schema, ...rest } = schema;
  return { $schema, title: "Configuration of the replicator", ...rest };
}

const HEAD = `# Configuration of the replicator: every key, its default and its environment name.
# Made from src/config/schema.ts; a commented key shows its default or an example.
# Precedence: default < file < environment < flag. Values may hold \${VAR} and \${VAR:-default}.
# Durations: 500ms, 5s, 5m, 7d. Sizes: 900kB, 64MB.
# yaml-language-server: $schema=./replicator.schema.json
`;

/** What stands uncommented in the example: the least that makes a contour. */
const ACTIVE: Readonly<Record<string, string>> = {
  "service.contour": "active",
  "database.url": "postgres://replicator@localhost/app",
  broker: "kafka",
  "kafka.brokers": "[localhost:9092]",
  "consumer.from": "[passive]",
};

export function exampleYaml(): string {
  return `${HEAD}${fieldLines(declared, 0).join("\n")}\n`;
}

function fieldLines(section: DeclaredSection, depth: number): string[] {
  return [...section.fields].flatMap(([name, field]) => [...(depth === 0 ? [""] : []), ...lines(name, field, depth)]);
}

function lines(name: string, field: Declared, depth: number): string[] {
  const indent = "  ".repeat(depth);
  if (field.kind === "value") return valueLines(name, field, indent);
  if (field.kind === "items")
    return [`${indent}# ${field.meta.description}. Environment: ${names(field)}`, ...itemLines(name, field.item)];
  const body = fieldLines(field, depth + 1);
  const active = body.some((line) => line.trim() !== "" && !line.trim().startsWith("#"));
  const about = field.scalar
    ? [`${indent}# ${field.scalar.meta.description}. Environment: ${names(field.scalar)}`]
    : [];
  return [...about, `${indent}${active ? "" : "# "}${name}:`, ...body];
}

function itemLines(name: string, item: DeclaredSection): string[] {
  const body = [...item.fields].flatMap(([key, field]) => {
    if (field.kind !== "value") return [];
    const value = field.defaultText ?? field.meta.example ?? "";
    return [`    # ${sentence(field)}`, `    ${field.required ? "" : "# "}${key}: ${value}`];
  });
  const [about = "", first = "", ...rest] = body;
  return [`${name}:`, about, `  - ${first.trim()}`, ...rest];
}

function valueLines(name: string, field: DeclaredValue, indent: string): string[] {
  const active = ACTIVE[field.path.join(".")];
  const value =
    active ??
    field.defaultText ??
    field.meta.example ??
    (field.meta.secret ? `\${${environmentName(field.path)}}` : "");
  const about = `${sentence(field)}. Environment: ${names(field)}`;
  return [`${indent}# ${about}`, `${indent}${active === undefined ? "# " : ""}${name}: ${value}`.trimEnd()];
}

function names(field: {
  readonly path: readonly string[];
  readonly meta: { readonly aliases?: readonly string[] };
}): string {
  return [environmentName(field.path), ...(field.meta.aliases ?? [])].join(", ");
}

/** The description, and what is expected where that says more than the head of the file. */
function sentence({ meta }: DeclaredValue): string {
  const plain = meta.expected === "text" || meta.seconds || meta.expected.includes("PEM file");
  return plain ? meta.description : `${meta.description} (${meta.expected})`;
}
