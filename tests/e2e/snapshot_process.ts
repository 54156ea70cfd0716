/** A `replicator snapshot` that can be killed on its way, and what a test asks of a contour meanwhile. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Sql } from "postgres";
import { until } from "../support/until.ts";
import type { Contour } from "./harness.ts";

const ROOT = join(import.meta.dir, "../..");

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class SnapshotProcess {
  readonly ended: Promise<Ended>;
  readonly #child;
  #stdout = "";
  #stderr = "";
  #peak = 0;

  constructor(contour: Pick<Contour, "configFile">, ...args: readonly string[]) {
    const binary = process.env.REPLICATOR_BINARY;
    const [command = "", ...first] = binary ? [binary] : [process.execPath, join(ROOT, "src/main.ts")];
    this.#child = spawn(command, [...first, "snapshot", ...args, "--config", contour.configFile], {
      cwd: process.env.REPLICATOR_CWD ?? ROOT,
      env: { ...process.env, NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child.stdout.on("data", (data) => {
      this.#stdout += String(data);
    });
    this.#child.stderr.on("data", (data) => {
      this.#stderr += String(data);
      this.#measure();
    });
    this.ended = new Promise((resolve) =>
      this.#child.on("close", (code, signal) =>
        resolve({ code: code ?? (signal === "SIGKILL" ? 137 : 1), stdout: this.#stdout, stderr: this.#stderr }),
      ),
    );
  }

  get stderr(): string {
    return this.#stderr;
  }

  async kill(name: NodeJS.Signals = "SIGKILL"): Promise<Ended> {
    this.#measure();
    this.#child.kill(name);
    return await this.ended;
  }

  /** Peak resident memory in MB seen so far (Linux). */
  peakMegabytes(): number {
    this.#measure();
    return this.#peak;
  }

  #measure(): void {
    try {
      const match = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.#child.pid}/status`, "utf8"));
      this.#peak = Math.max(this.#peak, Number(match?.[1] ?? 0) / 1024);
    } catch {
      // It has ended: what was seen stands.
    }
  }
}

/** Rows the snapshot under way has put into the queue, of all tables. */
export async function rowsDone(sql: Sql): Promise<number> {
  const [row] = await sql`SELECT coalesce(sum(rows_done), 0)::int AS done FROM replicator.snapshot`;
  return Number(row?.done);
}

export async function untilRows(sql: Sql, rows: number, timeoutMs = 120_000): Promise<void> {
  await until(
    `the snapshot has put ${rows} rows into the queue`,
    async () => {
      const done = await rowsDone(sql);
      return done >= rows || done;
    },
    timeoutMs,
  );
}

/** Notes every row that is replaced by one with a smaller stamp, whoever does it. */
export function watchStamps(table: string): string {
  return `
CREATE TABLE IF NOT EXISTS went_back (n bigserial PRIMARY KEY, what text);
CREATE OR REPLACE FUNCTION note_went_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.version, NEW.updated_at, NEW.updated_by COLLATE "C") < (OLD.version, OLD.updated_at, OLD.updated_by COLLATE "C") THEN
    INSERT INTO went_back (what) VALUES (TG_TABLE_NAME || ' ' || OLD.id || ': ' || OLD.version || ' to ' || NEW.version);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER note_went_back AFTER UPDATE ON ${table} FOR EACH ROW EXECUTE FUNCTION note_went_back();
ALTER TABLE ${table} ENABLE ALWAYS TRIGGER note_went_back;`;
}
