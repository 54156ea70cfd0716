/** Certificate files of the brokers, read to text; those of the database are only looked at: they are read at each connect. */
import { originAt, type Problem, type RawMap } from "./raw.ts";
import type { FileConfig } from "./schema.ts";

type Read = (path: string) => string;

/** A missing or unreadable file is a problem of the key that names it. */
export function readPemFiles(file: FileConfig, raw: RawMap, read: Read, problems: Problem[]): FileConfig {
  const load = (path: readonly string[], value: string | undefined): string | undefined => {
    if (value === undefined || value.includes("-----BEGIN")) return value;
    const problem = (message: string) => problems.push({ origin: originAt(raw, path), path: path.join("."), message });
    try {
      const text = read(value);
      if (!text.includes("-----BEGIN")) problem(`found the file "${value}" without "-----BEGIN", expected PEM`);
      return text;
    } catch (error) {
      const missing = error instanceof Error && Reflect.get(error, "code") === "ENOENT";
      problem(`Cannot read the file "${value}": ${missing ? "there is no such file" : String(error)}`);
      return undefined;
    }
  };
  const files = (path: readonly string[], tls: FileConfig["kafka"]["ssl"]) => {
    if (tls === undefined) return undefined;
    const parts = (["ca", "cert", "key"] as const).map((part) => [part, load([...path, part], tls[part])] as const);
    return Object.fromEntries(parts.filter(([, text]) => text !== undefined));
  };
  for (const key of ["sslrootcert", "sslcert", "sslkey"] as const) {
    const value = file.database[key];
    if (value !== "system") load(["database", key], value);
    const inUrl =
      file.database.url && URL.canParse(file.database.url) ? new URL(file.database.url).searchParams.get(key) : null;
    if (value === undefined && inUrl && inUrl !== "system") load(["database", "url"], inUrl);
  }
  if (file.nats.credentials_file !== undefined) {
    load(["nats", "credentials_file"], file.nats.credentials_file);
  }
  return {
    ...file,
    kafka: { ...file.kafka, ssl: files(["kafka", "ssl"], file.kafka.ssl) },
    nats: { ...file.nats, tls: files(["nats", "tls"], file.nats.tls) },
  };
}
