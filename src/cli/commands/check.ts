/** `replicator check`: findings about database and broker, each with the command that mends it. */
import type { Command } from "commander";
import { channelsOf } from "../../config/channels.ts";
import type { Role } from "../../config/config.ts";
import { tablesOf } from "../../config/tables.ts";
import type { Expectations, Finding } from "../../core/admin.ts";
import { ReplicatorError } from "../../core/errors.ts";
import { silentLogger } from "../../core/logger.ts";
import { refuseSameDatabase } from "../../direct/same_database.ts";
import { type Context, define } from "../context.ts";
import type { Session } from "../session.ts";
import { prefix, type Site, withSites } from "../sites.ts";

/** A broker that does not answer within it is a finding. */
const BROKER_DEADLINE_MS = 10_000;
const EXIT_FINDING = 4;

export function checkCommand(program: Command, context: Context): void {
  const command = program
    .command("check")
    .description(
      "Preflight: what is wrong with database, tables and broker, and the command that mends it; ends with 4 when something blocks",
    )
    .option("--json", "One JSON array");
  const needs = { contour: true, database: true, broker: true, run: true };
  define(command, async () =>
    withSites({ ...context, command, needs }, async (session, sites) => {
      const checks = sites.map(async (site) => {
        const findings = await site.admin.check(expectations(site), session.signal);
        return findings.map((finding) => ({ ...finding, message: `${prefix(site)}${finding.message}` }));
      });
      const broker = session.config.broker === "direct" ? checkTwo(session, sites) : checkBroker(session);
      const findings = (await Promise.all([...checks, broker])).flat();
      const joined = session.config.broker === "direct" ? [] : [session.config.broker];
      const where = [...sites.map(({ admin }) => admin.label), ...joined].join(" and ");
      report(session, where, findings, command.opts().json === true);
      return findings.some(({ severity }) => severity === "blocking") ? EXIT_FINDING : 0;
    }),
  );
}

function expectations({ side, config }: Site): Expectations {
  return {
    contour: config.service.contour,
    // In direct mode only one of the two writes.
    contours:
      side === null ? [...new Set([config.service.contour, ...config.consumer.from])].sort() : [config.service.contour],
    roles: side === null ? rightsOf(config.roles) : side === "source" ? ["publisher"] : ["consumer"],
    session: config.consumer.session,
    queueWarnBytes: config.queue.warn_size,
    tables: tablesOf(config).map(
      ({ name, primary_key: primaryKey, capture, conflict, exclude_columns: excludeColumns, stamp, columns }) => ({
        name,
        primaryKey,
        capture,
        conflict,
        excludeColumns,
        stamp,
        columns,
      }),
    ),
  };
}

/** The roles of the database that they need: polling is part of publishing. */
function rightsOf(roles: readonly Role[]): Expectations["roles"] {
  return [...new Set(roles.map((role) => (role === "sync" ? "publisher" : role)))];
}

/** That source and target are two databases. Whether they answer their own checks say. */
async function checkTwo({ signal }: Session, sites: readonly Site[]): Promise<readonly Finding[]> {
  try {
    const [source, target] = await Promise.all(
      sites.map(async ({ admin }) => ({ label: admin.label, ...(await admin.identity(signal)) })),
    );
    if (source && target) refuseSameDatabase(source, target);
    return [];
  } catch (error) {
    if (signal.aborted || !(error instanceof ReplicatorError)) throw error;
    if (error.code !== "direct.same_database") return [];
    return [{ severity: "blocking", code: error.code, message: error.message, remedy: error.remedy ?? "" }];
  }
}

async function checkBroker({ config, engine, signal }: Session): Promise<readonly Finding[]> {
  // What its client would log is what the findings say.
  const broker = engine.openBroker(config, silentLogger);
  const deadline = AbortSignal.timeout(BROKER_DEADLINE_MS);
  const either = AbortSignal.any([signal, deadline]);
  const sources = config.roles.includes("consumer") ? config.consumer.from : [];
  const channels = [config.service.contour, ...sources].flatMap((contour) => channelsOf(config, contour));
  try {
    await broker.ping(either);
    return await broker.check(channels, either);
  } catch (error) {
    if (signal.aborted) throw error;
    if (error instanceof ReplicatorError) {
      return [{ severity: "blocking", code: error.code, message: error.message, remedy: error.remedy ?? "" }];
    }
    if (!deadline.aborted) throw error;
    const where = config.broker === "kafka" ? config.kafka.brokers : config.nats.servers;
    return [
      {
        severity: "blocking",
        code: "broker.unreachable",
        message: `Cannot reach ${config.broker} at ${where.join(", ")}: no answer within ${BROKER_DEADLINE_MS / 1_000} s`,
        remedy: `Is it running, and is ${config.broker === "kafka" ? "kafka.brokers" : "nats.servers"} its address?`,
      },
    ];
  } finally {
    await broker.close();
  }
}

const COLOURS = { blocking: "31", warning: "33", info: "36" } as const;

function report({ terminal, redact }: Session, where: string, findings: readonly Finding[], json: boolean): void {
  if (json) {
    terminal.out(redact(JSON.stringify(findings, null, 2)));
    return;
  }
  for (const { severity, code, message, remedy } of findings) {
    const label = terminal.colour ? `\u001b[${COLOURS[severity]}m${severity}\u001b[0m` : severity;
    terminal.say(redact(`${label}  ${message}  [${code}]${remedy === "" ? "" : `\n    ${remedy}`}`));
  }
  const blocking = findings.filter(({ severity }) => severity === "blocking").length;
  terminal.say(
    blocking === 0
      ? `Nothing blocks replication: checked ${where}`
      : `${blocking} of ${findings.length} findings block replication: checked ${where}`,
  );
}
