/**
 * The kinds of value an option can have. Each option is declared once, in src/config/schema.ts, out of these; help,
 * environment names, JSON Schema, messages and the documented example are derived from the declaration.
 */
import { z } from "zod";

export interface OptionMeta {
  readonly description: string;
  /** Completes "expected …" in a message. */
  readonly expected: string;
  /** Never shown: not in messages, not by `config show`. */
  readonly secret?: boolean;
  /** Environment names besides the one made from the path. */
  readonly aliases?: readonly string[];
  /** Names a PEM file; the configuration the engine sees holds its text. */
  readonly pemFile?: boolean;
  /** A duration: a bare number under one of the aliases is seconds. */
  readonly seconds?: boolean;
  /** What the documented example shows where there is no default. */
  readonly example?: string;
}

/** What the declarations say about options, by schema. */
export const optionMeta = z.registry<OptionMeta>();

/** Attaches description and expectation to a value's schema. */
export function option<T extends z.ZodType>(
  schema: T,
  expected: string,
  description: string,
  more: Omit<OptionMeta, "description" | "expected"> = {},
): T {
  const described = schema.meta({ description });
  optionMeta.add(described, { description, expected, ...more });
  return described;
}

type More = Omit<OptionMeta, "description" | "expected">;

export function text(description: string, more?: More) {
  return option(z.string().min(1), "text", description, more);
}

export function secret(description: string) {
  return option(z.string().min(1), "text", description, { secret: true });
}

export function whole(min: number, max: number, description: string, more?: More) {
  return option(z.int().min(min).max(max), `a whole number from ${min} to ${max}`, description, more);
}

export function choice<const T extends readonly string[]>(choices: T, description: string, more?: More) {
  return option(z.enum(choices), orList(choices), description, more);
}

/** Comma-separated in the environment and in flags. */
export function list(items: string, description: string, more?: More & { readonly pattern?: RegExp }) {
  const { pattern, ...meta } = more ?? {};
  const item = pattern ? z.string().regex(pattern) : z.string().min(1);
  return option(z.array(item), `a list of ${items}`, description, meta);
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;

/** `500ms`, `5s`, `5m`, `7d` → milliseconds. */
export function duration(description: string, more?: More) {
  const schema = z
    .string()
    .regex(DURATION)
    .transform((value) => parseDuration(value) ?? 0);
  return option(schema, "a duration such as 500ms, 5s, 5m or 7d", description, { ...more, seconds: true });
}

/** Milliseconds, or null when the text is no duration. */
export function parseDuration(value: string): number | null {
  const match = DURATION.exec(value);
  return match ? Number(match[1]) * (UNIT_MS[match[2] ?? ""] ?? 0) : null;
}

const UNIT_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
};
const SIZE = /^(\d+(?:\.\d+)?)(B|kB|MB|GB|KiB|MiB|GiB)$/;

/** `900kB`, `64MB` → bytes. */
export function size(minBytes: number, maxBytes: number, range: string, description: string) {
  const schema = z
    .string()
    .regex(SIZE)
    .transform((value) => parseSize(value) ?? 0)
    .refine((bytes) => bytes >= minBytes && bytes <= maxBytes);
  return option(schema, `a size such as 900kB or 64MB, ${range}`, description);
}

export function parseSize(value: string): number | null {
  const match = SIZE.exec(value);
  return match ? Math.round(Number(match[1]) * (UNIT_BYTES[match[2] ?? ""] ?? 0)) : null;
}

/** `true` = TLS with the system's certificate authorities; a map gives files. The output is undefined without TLS. */
export function tls(server: string) {
  const files = z.strictObject({
    ca: option(z.string().min(1), "the path of a PEM file", `Certificates of the authorities that may sign ${server}`, {
      pemFile: true,
      example: "/etc/replicator/ca.pem",
    }).optional(),
    cert: option(z.string().min(1), "the path of a PEM file", `Our certificate for ${server}`, {
      pemFile: true,
      example: "/etc/replicator/client.pem",
    }).optional(),
    key: option(z.string().min(1), "the path of a PEM file", "The private key of our certificate", {
      pemFile: true,
      example: "/etc/replicator/client.key",
    }).optional(),
  });
  type Files = z.output<typeof files>;
  const schema = z
    .union([z.boolean(), files])
    .transform((value): Files | undefined => (value === true ? {} : value === false ? undefined : value));
  return option(
    schema,
    "true, false, or a map of ca, cert and key",
    `TLS to ${server}: true trusts the system's certificate authorities; the server is always verified`,
  );
}

export function orList(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}
