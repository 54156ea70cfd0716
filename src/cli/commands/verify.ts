/** `replicator verify`: compares this contour with others whose databases can be reached from here, row by row. */
import type { Command } from "commander";
import { parseDuration } from "../../config/leaf.ts";
import { tablesOf as configuredTables } from "../../config/tables.ts";
import { TARGET } from "../../config/verify_address.ts";
import { systemClock } from "../../core/clock.ts";
import { sameTable } from "../../core/table_name.ts";
import type { SideFacts, VerifySide } from "../../core/verify.ts";
import { type ComparisonReport, type ProcessReport, type VerifyReport, worst } from "../../verify/report.ts";
import { verify } from "../../verify/verify.ts";
import type { Progress } from "../../verify/verify_table.ts";
import { type Context, define } from "../context.ts";
import { inputError, type Session, withSession } from "../session.ts";
import type { Terminal } from "../terminal.ts";
import { apiUrl, askProcess } from "./status.ts";
import { drawVerify } from "./verify_report.ts";

const EXIT_DIFFERENCE = 4;
const SHOWN = 20;
const MOST_SHOWN = 10_000;
const WAIT = "5s";
const CHUNK_ROWS = 5_000;
const READY_DEADLINE_MS = 3_000;

export function verifyCommand(program: Command, context: Context): void {
  const collect = (value: string, before: readonly string[] = []) => [...before, value];
  const command = program
    .command("verify")
    .argument("[table...]", "as SQL writes them: users, sales.orders; none: all under replication here")
    .description(
      "Compare this contour's rows with another database that can be reached from here; ends with 4 when they differ",
    )
    .option(
      "--against <url>",
      "The other contour's database, again and again (REPLICATOR_AGAINST; default: target of direct mode)",
      collect,
    )
    .option("--limit <n>", `List at most so many differences of a table (default: ${SHOWN})`)
    .option("--wait <duration>", `Wait at most so long for changes that are on their way (default: ${WAIT})`)
    .option("--json", "One JSON object");
  define(command, async () =>
    withSession({ ...context, command, needs: { database: true }, quiet: true }, (session) => run(session, command)),
  );
}

async function run(session: Session, command: Command): Promise<number> {
  const { config, logger, terminal, engine, redact } = session;
  const { json } = command.opts();
  const limit = limitOf(command.opts().limit);
  const waitMs = durationOf(command.opts().wait);
  const others = databases(command, session);
  const opened: VerifySide[] = [];
  const bar = progressBar(terminal);
  try {
    const open = (against: string | null) => {
      const side = engine.openVerifySide(config, against, logger);
      opened.push(side);
      return side;
    };
    const here = open(null);
    const facts = await here.facts(session.signal);
    const tables = await tablesOf(session, here, command.args);
    const comparisons: ComparisonReport[] = [];
    for (const other of others) {
      comparisons.push(
        await verify({
          here,
          there: open(other),
          hereFacts: facts,
          tables,
          limit,
          waitMs,
          chunkRows: CHUNK_ROWS,
          clock: systemClock,
          signal: session.signal,
          onProgress: bar.draw,
        }),
      );
    }
    bar.clear();
    const report = await whole(session, here, facts, comparisons);
    terminal.out(redact(json === true ? JSON.stringify(report, null, 2) : drawVerify(report, coloured(terminal))));
    return report.verdict === "different" ? EXIT_DIFFERENCE : 0;
  } finally {
    bar.clear();
    await Promise.all(opened.map((side) => side.close()));
  }
}

async function whole(
  session: Session,
  here: VerifySide,
  facts: SideFacts,
  comparisons: readonly ComparisonReport[],
): Promise<VerifyReport> {
  return {
    verdict: worst(comparisons.map(({ verdict }) => verdict)),
    database: here.label,
    process: await lookAtProcess(session),
    here: facts,
    comparisons,
  };
}

/** URLs, or "target" for the second database of direct mode. @throws ReplicatorError `verify.no_other` */
function databases(command: Command, { config, terminal }: Session): readonly string[] {
  const given: unknown = command.opts().against;
  if (Array.isArray(given) && given.length > 0) return given.map(String);
  const listed = (terminal.environment.REPLICATOR_AGAINST ?? "").split(",").filter((url) => url.trim() !== "");
  if (listed.length > 0) return listed.map((url) => url.trim());
  if (config.target !== undefined) return [TARGET];
  throw inputError(
    "verify.no_other",
    "Cannot compare: no other database is named",
    "Name it: replicator verify --against postgres://user@host:port/name (or REPLICATOR_AGAINST); both databases must be reachable from here",
  );
}

async function tablesOf({ config, signal }: Session, here: VerifySide, named: readonly string[]) {
  if (named.length > 0) return named;
  const known = await here.replicated(signal);
  const configured = configuredTables(config)
    .map(({ name }) => name)
    .filter((name) => !known.includes(name));
  const tables = [...known, ...configured.filter((name) => !known.some((one) => sameTable(one, name)))];
  if (tables.length > 0) return tables;
  throw inputError(
    "verify.no_tables",
    `Cannot compare: no table of ${here.label} is under replication`,
    "Name tables (replicator verify users), or put them under replication: replicator tables add users",
  );
}

async function lookAtProcess({ config, signal }: Session): Promise<ProcessReport | null> {
  const url = apiUrl(config);
  const status = url === null ? null : await askProcess(url, config.api.token, signal);
  if (url === null || status === null) return null;
  const { role, lag_seconds, lag_level } = status;
  const { ready, reasons } = await askReady(url, signal);
  return { url, role, lag_seconds, lag_level, ready, reasons };
}

async function askReady(url: string, signal: AbortSignal) {
  try {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(READY_DEADLINE_MS)]);
    const response = await fetch(`${url}/ready`, { signal: deadline });
    const body: unknown = await response.json();
    const reasons: unknown = typeof body === "object" && body !== null ? Reflect.get(body, "reasons") : [];
    return { ready: response.ok, reasons: Array.isArray(reasons) ? reasons.map(String) : [] };
  } catch (error) {
    if (signal.aborted) throw error;
    return { ready: false, reasons: ["/ready does not answer"] };
  }
}

const BAR = 30;
const REDRAW_MS = 100;

interface ProgressBar {
  readonly draw: (progress: Progress) => void;
  readonly clear: () => void;
}

/** On a terminal only. */
function progressBar({ sayIsTerminal, write }: Terminal): ProgressBar {
  if (!sayIsTerminal) return { draw: () => undefined, clear: () => undefined };
  let drawnAt = Number.NEGATIVE_INFINITY;
  let drawn = false;
  return {
    draw: ({ table, rows, of }) => {
      const now = systemClock.monotonic();
      if (now - drawnAt < REDRAW_MS) return;
      drawnAt = now;
      drawn = true;
      const share = of > 0 ? Math.min(1, rows / of) : 1;
      const filled = Math.round(share * BAR);
      const bar = `${"#".repeat(filled)}${".".repeat(BAR - filled)}`;
      write(`\r\u001b[K${table}  [${bar}] ${Math.floor(share * 100)} %  ${rows} of about ${of} rows`);
    },
    clear: () => {
      if (drawn) write("\r\u001b[K");
      drawn = false;
    },
  };
}

function coloured({ outIsTerminal, environment }: Terminal): boolean {
  return outIsTerminal && !environment.NO_COLOR && environment.TERM !== "dumb";
}

function limitOf(text: unknown): number {
  if (typeof text !== "string") return SHOWN;
  const limit = /^\d{1,5}$/.test(text) ? Number(text) : -1;
  if (limit >= 0 && limit <= MOST_SHOWN) return limit;
  throw inputError(
    "verify.bad_limit",
    `Read --limit "${text}", expected a whole number from 0 to ${MOST_SHOWN}`,
    `Leave it out for ${SHOWN}`,
  );
}

function durationOf(given: unknown): number {
  const text = typeof given === "string" ? given : WAIT;
  const milliseconds = parseDuration(text);
  if (milliseconds !== null) return milliseconds;
  throw inputError("verify.bad_wait", `Read --wait "${text}", expected a duration`, "Write it as 500ms, 5s or 1m");
}
