/** `replicator snapshot`: the rows that exist already, through the broker. */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import process from "node:process";
import type { Command } from "commander";
import type { Admin } from "../../core/admin.ts";
import { systemClock } from "../../core/clock.ts";
import { runSnapshot } from "../../snapshot/run_snapshot.ts";
import { type Context, define } from "../context.ts";
import { duration, grouped, ProgressLine } from "../progress.ts";
import { inputError, type Session, withAdmin } from "../session.ts";

/** Above these the snapshot waits for the broker: enough to keep it busy, little enough that other changes pass quickly. */
const LIMITS = { changes: 50_000, bytes: 64 * 1_048_576 };
const INTERRUPTED = 130;

export interface SnapshotRequest {
  readonly tables: readonly string[];
  readonly restart?: boolean;
  readonly exact?: boolean;
  readonly wait?: boolean;
  readonly json?: boolean;
  readonly rate?: number | null;
}

export function snapshotCommand(program: Command, context: Context): void {
  const command = program
    .command("snapshot")
    .argument("[table...]", "as SQL writes them: users, sales.orders; none: all that are under replication")
    .description(
      "Send the rows that exist already, through the queue and the broker, while changes flow; run again, it goes on where it was",
    )
    .option("--restart", "Begin anew instead of going on with what is not finished")
    .option("--rate <rows>", "Rows a second at most (default: as fast as the broker confirms)")
    .option("--exact", "Count the rows first, for an exact end of the bar; otherwise PostgreSQL's estimate")
    .option("--wait", "Return when the broker has confirmed everything, not when everything is in the queue")
    .option("--json", "One JSON object at the end");
  define(command, async () =>
    withAdmin({ ...context, command, needs: { database: true } }, (session, admin) => {
      const { restart, exact, wait, json, rate } = command.opts();
      return sendSnapshot(session, admin, {
        tables: command.args,
        restart: restart === true,
        exact: exact === true,
        wait: wait === true,
        json: json === true,
        rate: rateOf(rate),
      });
    }),
  );
}

/** Returns the exit code: 0 when it is complete, 128 + signal when it was stopped before that. */
export async function sendSnapshot(session: Session, admin: Admin, request: SnapshotRequest): Promise<number> {
  const { terminal, signal, signals } = session;
  const { tables, restart = false, exact = false, wait = false, json = false, rate = null } = request;
  const line = new ProgressLine(terminal, systemClock);
  const began = systemClock.monotonic();
  const owner = `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`;
  let result: Awaited<ReturnType<typeof runSnapshot>>;
  try {
    result = await runSnapshot({
      source: admin.snapshot(),
      owner,
      tables,
      restart,
      exact,
      wait,
      rate,
      limits: LIMITS,
      clock: systemClock,
      signal,
      onProgress: (now) => line.show(now),
      say: (text) => line.say(text),
    });
  } finally {
    line.close();
  }
  const seconds = (systemClock.monotonic() - began) / 1_000;
  const { complete, rows } = result;
  const confirmed = result.tables.every((table) => table.confirmed);
  if (json) {
    const state = complete ? "complete" : "interrupted";
    const shown = result.tables.map(({ tableId: _, circle: __, ...table }) => table);
    const facts = {
      state,
      rows,
      seconds: rounded(seconds),
      rows_per_second: Math.round(rows / Math.max(seconds, 0.001)),
    };
    terminal.out(JSON.stringify({ ...facts, confirmed: complete && confirmed, tables: shown }, null, 2));
  }
  if (!complete) {
    terminal.say(
      `Stopped after ${grouped(rows)} rows. Run replicator snapshot again: it goes on where it was (--restart begins anew)`,
    );
    return signals.forcedCode ?? INTERRUPTED;
  }
  const where = confirmed
    ? "the broker has confirmed them all"
    : "all of them are in the queue, the last ones wait for the broker's confirmation (--wait waits for it)";
  terminal.say(
    `Done: ${grouped(rows)} rows of ${result.tables.length} table${result.tables.length === 1 ? "" : "s"} in ${duration(seconds)}; ${where}. The other contours apply them in the order of their channels`,
  );
  return 0;
}

function rounded(seconds: number): number {
  return Math.round(seconds * 1_000) / 1_000;
}

function rateOf(text: unknown): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw inputError("cli.bad_value", `Read --rate "${String(text)}", expected rows a second, a number above 0`);
}
