/** `replicator status`: the API of the running process is asked, else the database. */
import type { Command } from "commander";
import type { Config } from "../../config/config.ts";
import { targetConfig } from "../../config/target.ts";
import { isAbort, ReplicatorError } from "../../core/errors.ts";
import { type StatusReport, suspendedBy } from "../../core/status.ts";
import { VERSION } from "../../core/version.ts";
import { type Context, define } from "../context.ts";
import { inputError, type Session, withSession } from "../session.ts";
import { drawTable } from "../table.ts";

const DEADLINE_MS = 3_000;

export function statusCommand(program: Command, context: Context): void {
  const command = program
    .command("status")
    .description("What /status of the running process says; without one, what the database knows")
    .option("--json", "One JSON object");
  define(command, async () =>
    withSession({ ...context, command, needs: {}, quiet: true }, async (session) => {
      const { config, terminal } = session;
      const url = apiUrl(config);
      const running = url === null ? null : await askProcess(url, config.api.token, session.signal);
      const report = running ?? (await askDatabase(session, url));
      terminal.say(running ? `From the running process at ${url}` : "No process answers: from the database");
      terminal.out(command.opts().json === true ? JSON.stringify(report, null, 2) : drawStatus(report));
      return 0;
    }),
  );
}

/** Where the process of this configuration answers; null where the port is only known to the process. */
export function apiUrl({ api }: Config): string | null {
  if (api.port === 0) return null;
  const host = api.host === "0.0.0.0" ? "127.0.0.1" : api.host === "::" ? "::1" : api.host;
  return `http://${host.includes(":") ? `[${host}]` : host}:${api.port}`;
}

/** Null when nobody of ours answers there. @throws ReplicatorError `status.token_refused` */
export async function askProcess(
  url: string,
  token: string | undefined,
  signal: AbortSignal,
): Promise<StatusReport | null> {
  const headers: Record<string, string> = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  try {
    const response = await fetch(`${url}/status`, {
      headers,
      signal: AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)]),
    });
    if (response.status === 401) {
      throw inputError(
        "status.token_refused",
        `The process at ${url} refused the token`,
        "Set api.token (API_TOKEN) to that of the process",
      );
    }
    const body: unknown = await response.json();
    return isReport(body) ? body : null;
  } catch (error) {
    if (error instanceof ReplicatorError || (isAbort(error) && signal.aborted)) throw error;
    // Nobody there, somebody else there, or too slow: the database is asked.
    return null;
  }
}

function isReport(body: unknown): body is StatusReport {
  return typeof body === "object" && body !== null && "is_running" in body && "records_replicated" in body;
}

async function askDatabase({ config, engine, logger, signal }: Session, url: string | null): Promise<StatusReport> {
  const { database } = config;
  if ([database.url, database.host, database.name, database.user].every((part) => part === undefined)) {
    throw new ReplicatorError({
      code: "status.nobody",
      message: `Cannot tell the status: no process answers${url ? ` at ${url}` : ""}, and no database is configured`,
      retry: "never",
      fault: "environment",
      remedy: "Start it (replicator run), name its port (--api-port), or configure the database (DATABASE_URL)",
    });
  }
  const target = targetConfig(config);
  const admin = engine.openAdmin(config, logger);
  const applying = target ? engine.openAdmin(target, logger) : null;
  try {
    const here = await admin.status(signal);
    // In direct mode it is the target where changes are parked and conflicts settled.
    const there = applying ? await applying.status(signal) : here;
    const { parked, dead, parkedSince, parkedTables, conflicts, last_sync_time } = there;
    const known = { ...here, parked, dead, parkedSince, parkedTables, conflicts, last_sync_time };
    const { lag_warning, lag_critical } = config.alerts;
    const lag = known.lag_seconds * 1_000;
    return {
      last_lsn: target ? known.settled_lsn : known.last_lsn,
      last_sync_time: known.last_sync_time,
      records_replicated: 0,
      error_count: 0,
      last_error: null,
      is_running: false,
      contour: known.contour,
      role: "",
      broker: config.broker,
      version: VERSION,
      uptime_seconds: 0,
      lag_seconds: known.lag_seconds,
      lag_level: lag >= lag_critical ? "critical" : lag >= lag_warning ? "warning" : "ok",
      unpublished: known.unpublished,
      parked: known.parked + known.dead,
      dead: known.dead,
      suspended_since: known.parkedSince,
      suspended: suspendedBy(known),
      conflicts: known.conflicts,
      alerts: [],
      channels: [],
      tables: known.tables,
      snapshots: known.snapshots,
    };
  } finally {
    await Promise.all([admin.close(), applying?.close()]);
  }
}

function drawStatus(report: StatusReport): string {
  const facts: [string, string][] = [
    ["contour", report.contour],
    ["running", report.is_running ? `yes, ${report.role} over ${report.broker}, for ${report.uptime_seconds} s` : "no"],
    ["lag", `${Math.round(report.lag_seconds * 1_000) / 1_000} s (${report.lag_level})`],
    ["unpublished", String(report.unpublished)],
    ["replicated", `${report.records_replicated} by this process`],
    ["last sync", report.last_sync_time ?? "never"],
    ["parked", report.dead > 0 ? `${report.parked}, ${report.dead} of them dead letters` : String(report.parked)],
    ...report.suspended.map((what): [string, string] => ["suspended", what]),
    ["conflicts", String(report.conflicts)],
    [
      "errors",
      report.last_error === null ? String(report.error_count) : `${report.error_count}, last: ${report.last_error}`,
    ],
    ...report.alerts.map((alert): [string, string] => ["alert", alert]),
  ];
  const width = Math.max(...facts.map(([name]) => name.length));
  const parts = [facts.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n")];
  if (report.channels.length > 0) {
    const rows = report.channels.map((one) => [
      one.channel,
      one.direction,
      String(one.partition ?? ""),
      String(one.sequence ?? ""),
      String(one.changes),
      one.active ? "yes" : "no",
      one.trouble ?? "",
    ]);
    parts.push(drawTable(["channel", "direction", "partition", "sequence", "changes", "active", "trouble"], rows));
  }
  if (report.tables.length > 0) {
    parts.push(
      drawTable(
        ["table", "channel", "conflict"],
        report.tables.map(({ table, channel, conflict }) => [table, channel, conflict]),
      ),
    );
  }
  const polled = report.tables.filter(({ mode }) => mode === "periodic");
  if (polled.length > 0) {
    const rows = polled.map((one) => [
      one.table,
      one.last_sync ?? "",
      one.next_sync ?? "",
      one.last_rows === undefined ? "" : String(one.last_rows),
      one.trouble ?? "",
    ]);
    parts.push(drawTable(["polled table", "last sync", "next sync", "rows", "trouble"], rows));
  }
  const snapshots = (report.snapshots ?? []).map((one) => [
    one.table,
    one.state,
    String(one.rows_done),
    one.state === "done" ? String(one.rows_done) : String(Math.max(one.rows_done, one.rows_estimated)),
    one.requested_by,
    one.finished_at ?? one.started_at ?? "",
  ]);
  if (snapshots.length > 0)
    parts.push(drawTable(["snapshot of", "state", "rows", "of", "requested by", "finished, or started"], snapshots));
  return parts.join("\n\n");
}
