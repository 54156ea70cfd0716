/** What `check` says about the NATS servers and the streams: durability, limits, rights, each with what mends it. */
import {
  type JetStreamAccountStats,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
  type StreamInfo,
} from "@nats-io/jetstream";
import { millis, type ServerInfo } from "@nats-io/nats-core";
import type { BrokerFinding } from "../../src/core/broker.ts";
import type { Channel } from "../../src/core/channel.ts";
import { ReplicatorError } from "../../src/core/errors.ts";
import { MESSAGE_LIMIT } from "../../src/core/message.ts";
import { natsError } from "./errors.ts";
import { blocking, info, warning } from "./finding.ts";
import { homeOf } from "./home.ts";
import { contourSubjects, covers, streamName } from "./names.ts";
import { DEFAULT_STREAM, type NatsOptions } from "./options.ts";
import { placementFindings, silent } from "./placement_check.ts";
import { isCutOff } from "./source_log.ts";
import { findStream } from "./stream.ts";

/** A body of the product's limit with its headers. */
const NEEDED_MESSAGE_BYTES = MESSAGE_LIMIT + 16_384;
/** Older ones lose confirmed messages in more ways than by the interval of fsync (Jepsen 2025). */
const WANTED_VERSION = [2, 12, 3] as const;
const NEARLY_FULL = 0.8;

/** @throws the client's errors where not even the account can be asked */
export async function preflight(
  manager: JetStreamManager,
  server: ServerInfo,
  options: NatsOptions,
  channels: readonly Channel[],
): Promise<BrokerFinding[]> {
  const findings = serverFindings(server);
  try {
    findings.push(...accountFindings(await manager.getAccountInfo()));
  } catch (error) {
    const failure = natsError("use JetStream", error);
    if (failure.code === "broker.no_jetstream")
      return [...findings, blocking(failure.code, failure.message, failure.remedy ?? "")];
    if (failure.code !== "broker.unavailable") throw failure;
    findings.push(
      warning(
        "broker.unavailable",
        "JetStream has no leader here: streams that are there and have their majority go on, nothing new can be made",
        "See that a majority of all servers is up and that the gateways stand: nats server report jetstream",
      ),
    );
  }
  for (const contour of new Set(channels.map((channel) => channel.contour))) {
    const name = streamName(options.stream ?? DEFAULT_STREAM, contour);
    let stream: StreamInfo | null;
    try {
      stream = await findStream(manager, name);
    } catch (error) {
      if (!isCutOff(error)) throw error;
      findings.push(silent(name));
      continue;
    }
    if (!stream) {
      findings.push(missing(name, contour));
      continue;
    }
    findings.push(...streamFindings(stream, contour, options));
    findings.push(
      ...(await placementFindings(manager, { stream, contour, home: homeOf(server, options.domain), options })),
    );
  }
  return findings;
}

export function serverFindings(server: ServerInfo): BrokerFinding[] {
  const findings: BrokerFinding[] = [];
  if (server.max_payload < NEEDED_MESSAGE_BYTES) {
    findings.push(
      blocking(
        "broker.max_payload",
        `The NATS server takes messages of ${server.max_payload} bytes, the replicator sends up to ${NEEDED_MESSAGE_BYTES}`,
        "Set `max_payload: 1MB` on every nats-server",
      ),
    );
  }
  if (olderThan(server.version, WANTED_VERSION)) {
    findings.push(
      warning(
        "broker.version",
        `The NATS server is ${server.version}; before ${WANTED_VERSION.join(".")} JetStream is known to lose confirmed messages`,
        `Upgrade every nats-server to ${WANTED_VERSION.join(".")} or newer`,
      ),
    );
  }
  findings.push(
    info(
      "broker.sync_interval",
      "NATS confirms a message before it is on the disk (fsync every 2 minutes unless configured): servers that fail together may forget confirmed messages",
      "Nothing is lost by that alone, the queue keeps each change until it was applied; `jetstream { sync_interval: always }` closes the gap at the price of throughput",
    ),
  );
  return findings;
}

function accountFindings({ limits, storage, streams }: JetStreamAccountStats): BrokerFinding[] {
  const findings: BrokerFinding[] = [];
  if (limits.max_storage > 0 && storage > limits.max_storage * NEARLY_FULL) {
    findings.push(
      warning(
        "broker.storage_limit",
        `The account uses ${storage} of ${limits.max_storage} bytes of JetStream storage; a full one refuses messages and the backlog grows in the queue`,
        "Raise the account's max_file, or shorten the retention: nats stream edit",
      ),
    );
  }
  if (limits.max_streams > 0 && streams >= limits.max_streams) {
    findings.push(
      warning(
        "broker.stream_limit",
        `The account has ${streams} of ${limits.max_streams} streams; a contour that is added gets none`,
        "Raise the account's max_streams",
      ),
    );
  }
  return findings;
}

export function streamFindings(
  stream: Pick<StreamInfo, "config">,
  contour: string,
  options: NatsOptions,
): BrokerFinding[] {
  const { config } = stream;
  const edit = `nats stream edit ${config.name}`;
  const findings: BrokerFinding[] = [];
  const name = `The NATS stream "${config.name}"`;
  if (config.retention !== RetentionPolicy.Limits) {
    findings.push(
      blocking(
        "broker.stream_retention",
        `${name} has the retention "${config.retention}": it removes what another contour has not read`,
        `Remove it once it is read everywhere (nats stream rm ${config.name}); it is made anew`,
      ),
    );
  }
  if (!(config.subjects ?? []).some((pattern) => covers(pattern, contourSubjects(contour)))) {
    findings.push(
      warning(
        "broker.stream_subjects",
        `${name} does not take in "${contourSubjects(contour)}"`,
        `The publisher adds it when it starts, or: ${edit} --subjects "${contourSubjects(contour)}"`,
      ),
    );
  }
  if (config.max_msg_size > 0 && config.max_msg_size < NEEDED_MESSAGE_BYTES) {
    findings.push(
      blocking(
        "broker.stream_message_size",
        `${name} takes messages of ${config.max_msg_size} bytes, the replicator sends up to ${NEEDED_MESSAGE_BYTES}`,
        `${edit} --max-msg-size 1048576`,
      ),
    );
  }
  if (config.storage !== StorageType.File) {
    findings.push(
      warning(
        "broker.stream_storage",
        `${name} is kept in memory: a restart of the server forgets what was not read`,
        `Remove it once it is read everywhere (nats stream rm ${config.name}); it is made anew on disk`,
      ),
    );
  }
  if (config.num_replicas < 2) {
    findings.push(
      warning(
        "broker.replicas",
        `${name} has one copy: while its server is down nothing is sent, and the loss of its disk loses what was not read`,
        `With three servers or more: ${edit} --replicas 3, and nats.replicas: 3`,
      ),
    );
  }
  const limited = [
    config.max_bytes > 0 && "max_bytes",
    config.max_msgs > 0 && "max_msgs",
    config.max_msgs_per_subject > 0 && "max_msgs_per_subject",
  ].filter((limit) => limit !== false);
  if (limited.length > 0 && config.discard !== "new") {
    findings.push(
      warning(
        "broker.stream_discard",
        `${name} drops its oldest messages at its ${limited.join(", ")}, read or not`,
        `${edit} --discard new`,
      ),
    );
  }
  const retentionMs = millis(config.max_age);
  if (config.max_age > 0 && retentionMs < options.retentionMs) {
    findings.push(
      warning(
        "broker.stream_max_age",
        `${name} keeps messages for ${Math.round(retentionMs / 1000)} s, the configuration asks for ${Math.round(options.retentionMs / 1000)} s`,
        `${edit} --max-age ${Math.round(options.retentionMs / 1000)}s`,
      ),
    );
  }
  return findings;
}

function missing(stream: string, contour: string): BrokerFinding {
  return info(
    "broker.stream_missing",
    `The NATS stream "${stream}" does not exist yet`,
    `The publisher of the contour "${contour}" makes it when it starts`,
  );
}

function olderThan(version: string, wanted: readonly [number, number, number]): boolean {
  const parts = /^(\d+)\.(\d+)\.(\d+)/.exec(version)?.slice(1).map(Number);
  if (!parts) return false;
  for (const [index, least] of wanted.entries()) {
    const part = parts[index] ?? 0;
    if (part !== least) return part < least;
  }
  return false;
}

/** Refusals that `check` lists instead of failing with them. */
export function asFinding(error: unknown): BrokerFinding | null {
  if (!(error instanceof ReplicatorError) || error.code !== "broker.not_authorized") return null;
  return blocking(error.code, error.message, error.remedy ?? "");
}
