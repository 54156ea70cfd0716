/** Suites say what they need to run; where it is missing they are skipped, with the reason printed. */
import { describe } from "bun:test";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CACHE, kafkaLibs, natsServer, postgresHome, which } from "../../tools/cache.mjs";
import { DEFAULT_MAJOR, type PostgresMajor } from "../servers/postgres.ts";

export type Need =
  | "postgres"
  | `postgres:${PostgresMajor}`
  | "kafka"
  | "nats"
  | "psql"
  | "openssl"
  | "deno"
  | "chromium";

const INSTALL: Readonly<Record<string, string>> = {
  psql: "psql is not installed (apt-get install postgresql-client)",
  chromium: "Chromium is not installed (apt-get install chromium)",
  openssl: "openssl is not installed (apt-get install openssl)",
};

/** What a machine may lack without failing the run: what needs it is checked in its parts elsewhere. */
const OPTIONAL: readonly Need[] = ["chromium"];

/** Why a need is not met on this machine, or undefined. */
export function missing(need: Need): string | undefined {
  const [what, major = String(DEFAULT_MAJOR)] = need.split(":");
  switch (what) {
    case "postgres":
      return existsSync(postgresHome(major)) ? undefined : notFetched(`PostgreSQL ${major}`, `postgres:${major}`);
    case "kafka":
      return existsSync(kafkaLibs()) && which("java") ? undefined : notFetched("Kafka", "kafka");
    case "nats":
      return existsSync(natsServer()) ? undefined : notFetched("NATS", "nats");
    case "deno":
      return existsSync(join("node_modules", "deno", "deno")) ? undefined : "Deno is not in node_modules (npm ci)";
    default:
      return which(what ?? "") ? undefined : INSTALL[need];
  }
}

/** What bootstrap said when it could not fetch it; else that it was never asked to. */
function notFetched(what: string, argument: string): string {
  const file = join(CACHE, "missing.json");
  const said: Record<string, string> = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
  return said[what] ?? `${what} is not in .cache (node tools/bootstrap.mjs ${argument})`;
}

/** A describe block that runs where all needs are met. Elsewhere it is skipped and the runner is told why. */
export function describeWith(needs: Need | readonly Need[], name: string, body: () => void): void {
  const unmet = [needs].flat().filter((need) => missing(need) !== undefined);
  const reasons = unmet.map((need) => missing(need));
  if (reasons.length === 0) {
    describe(name, body);
    return;
  }
  const reason = reasons.join("; ");
  process.stderr.write(`SKIPPED ${name}: ${reason}\n`);
  const report = process.env.REPLICATOR_SKIPS;
  if (report)
    appendFileSync(
      report,
      `${JSON.stringify({ name, reason, optional: unmet.every((need) => OPTIONAL.includes(need)) })}\n`,
    );
  describe.skip(`${name} (skipped: ${reason})`, body);
}
