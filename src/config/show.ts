/** `config show`: the effective configuration and where each value comes from, secrets hidden. */
import { stringify } from "yaml";
import type { Declared, DeclaredItems, DeclaredSection, DeclaredValue } from "./declared.ts";
import { declared } from "./declared.ts";
import type { Loaded } from "./load.ts";
import { describeOrigin, type RawMap, type RawNode, toInput } from "./raw.ts";
import { HIDDEN, redactUrls } from "./redact.ts";
import { targetContour } from "./target.ts";

interface Shown {
  readonly value: unknown;
  readonly origin: string;
}

type ShownTree = Map<string, Shown | ShownTree>;

/** YAML that would be read back as the same configuration, but for hidden secrets and keys without a value. */
export function showYaml(loaded: Loaded): string {
  return yamlLines(effective(loaded), 0).join("\n");
}

/** The same as one object, without origins. */
export function showObject(loaded: Loaded): Record<string, unknown> {
  return plain(effective(loaded));
}

function effective(loaded: Loaded): ShownTree {
  const tree = sectionTree(declared, loaded.raw);
  const consumer = tree.get("consumer");
  if (consumer instanceof Map && !consumer.has("group") && loaded.config.service.contour !== "") {
    consumer.set("group", { value: loaded.config.consumer.group, origin: "default" });
  }
  const target = tree.get("target");
  const own = loaded.config.service.contour;
  if (target instanceof Map && !target.has("contour") && own !== "") {
    target.set("contour", { value: targetContour(own), origin: "default" });
  }
  // Beside a target it is refused.
  if (target && consumer instanceof Map) consumer.delete("from");
  return tree;
}

function sectionTree(section: DeclaredSection, raw: RawMap | undefined): ShownTree {
  const tree: ShownTree = new Map();
  for (const [name, field] of section.fields) {
    const shown = showField(field, raw?.entries.get(name));
    if (shown) tree.set(name, shown);
  }
  return tree;
}

function showField(field: Declared, node: RawNode | undefined): Shown | ShownTree | null {
  switch (field.kind) {
    case "section":
      if (node?.kind === "text") return { value: toInput(node, field), origin: describeOrigin(node.origin) };
      // Sections that decide something by being there (ssl, sasl, target) are shown only where they are set.
      return node || !field.optional ? nonEmpty(sectionTree(field, node?.kind === "map" ? node : undefined)) : null;
    case "items":
      return node ? { value: items(field, node), origin: describeOrigin(node.origin) } : null;
    case "value":
      return showValue(field, node);
  }
}

function nonEmpty(tree: ShownTree): ShownTree | null {
  return tree.size > 0 ? tree : null;
}

function items(field: DeclaredItems, node: RawNode): unknown {
  return hideUrls(toInput(node, field));
}

function showValue(field: DeclaredValue, node: RawNode | undefined): Shown | null {
  if (!node) return field.defaultText === null ? null : { value: defaultValue(field), origin: "default" };
  const value = field.meta.secret ? HIDDEN : hideUrls(toInput(node, field));
  return { value, origin: describeOrigin(node.origin) };
}

function defaultValue(field: DeclaredValue): unknown {
  const text = field.defaultText ?? "";
  if (field.type === "list")
    return text
      .slice(1, -1)
      .split(", ")
      .filter((item) => item !== "");
  return field.type === "number" ? Number(text) : text;
}

function hideUrls(value: unknown): unknown {
  if (typeof value === "string") return redactUrls(value);
  return Array.isArray(value) ? value.map(hideUrls) : value;
}

function yamlLines(tree: ShownTree, depth: number): string[] {
  const indent = "  ".repeat(depth);
  return [...tree].flatMap(([name, shown]) => {
    if (shown instanceof Map) return [`${indent}${name}:`, ...yamlLines(shown, depth + 1)];
    const nested = Array.isArray(shown.value) && shown.value.some((item) => typeof item === "object");
    if (nested) {
      const block = stringify(shown.value, { lineWidth: 0 }).trimEnd().split("\n");
      return [`${indent}${name}: # ${shown.origin}`, ...block.map((line) => `${indent}  ${line}`)];
    }
    const flow = stringify(shown.value, {
      lineWidth: 0,
      collectionStyle: "flow",
      flowCollectionPadding: false,
    }).trimEnd();
    return [`${`${indent}${name}: ${flow}`.padEnd(48)} # ${shown.origin}`];
  });
}

function plain(tree: ShownTree): Record<string, unknown> {
  return Object.fromEntries(
    [...tree].map(([name, shown]) => [name, shown instanceof Map ? plain(shown) : shown.value]),
  );
}
