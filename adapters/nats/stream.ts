/** The stream of a contour: made when it is missing, left alone when it is there and fits. */
import {
  DiscardPolicy,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
  type StoredMsg,
  type StreamConfig,
  type StreamInfo,
} from "@nats-io/jetstream";
import { nanos } from "@nats-io/nats-core";
import { ReplicatorError } from "../../src/core/errors.ts";
import { apiCode, NOT_FOUND } from "./errors.ts";
import type { Home } from "./home.ts";
import { contourSubjects, covers, overlaps, streamName } from "./names.ts";
import { DEFAULT_STREAM, type NatsOptions } from "./options.ts";

const DUPLICATE_WINDOW_MS = 120_000;
/** nats-server's default max_payload; a message of the product's limit (900 kB) with its headers fits. */
const MAX_MESSAGE_BYTES = 1_048_576;
const CLUSTER_REPLICAS = 3;
const NO_SUITABLE_PEERS = 10_005;

/**
 * What a log counts in: a stream of the same name made anew has another creation time, and positions of the old one
 * mean nothing in it.
 */
export function streamIdentity(info: StreamInfo): string {
  return `${info.config.name}@${info.created}`;
}

/** null when there is no such stream. @throws the client's errors */
export async function findStream(
  manager: JetStreamManager,
  name: string,
  subjectsFilter?: string,
): Promise<StreamInfo | null> {
  try {
    return await manager.streams.info(name, subjectsFilter ? { subjects_filter: subjectsFilter } : {});
  } catch (error) {
    if (apiCode(error) === NOT_FOUND.stream) return null;
    throw error;
  }
}

/**
 * Makes a stream or a mirror with the copies it should have. Two servers are a cluster of three of which one is away: asked
 * for three copies it gives the third to that one. A cluster that really has two refuses, and the stream gets one copy.
 * @throws the client's errors
 */
export async function addStream(
  manager: JetStreamManager,
  options: Pick<NatsOptions, "replicas">,
  config: Partial<StreamConfig> & Pick<StreamConfig, "name">,
  home: Home | null,
): Promise<StreamInfo> {
  const servers = home?.servers ?? 1;
  const wanted = options.replicas ?? (servers >= 2 ? CLUSTER_REPLICAS : 1);
  try {
    return await manager.streams.add({ ...config, num_replicas: wanted });
  } catch (error) {
    const refused = apiCode(error) === NO_SUITABLE_PEERS && options.replicas === undefined;
    if (!refused || servers >= CLUSTER_REPLICAS) throw error;
    return await manager.streams.add({ ...config, num_replicas: 1 });
  }
}

/**
 * One attempt.
 * @param home where it is placed: left to itself, a cluster that is short of servers puts it into another one
 * @throws the client's errors, and ReplicatorError for a stream that cannot serve
 */
export async function ensureStream(
  manager: JetStreamManager,
  options: NatsOptions,
  contour: string,
  home: Home | null,
): Promise<void> {
  const name = streamName(options.stream ?? DEFAULT_STREAM, contour);
  const subjects = contourSubjects(contour);
  const found = await findStream(manager, name);
  if (found) return adopt(manager, found, subjects);
  try {
    const placement = home ? { placement: { cluster: home.cluster, tags: [] } } : {};
    const made = await addStream(manager, options, { ...streamConfig(name, subjects, options), ...placement }, home);
    options.logger.info(
      { stream: name, subjects, replicas: made.config.num_replicas, ...(home ? { cluster: home.cluster } : {}) },
      "Made the NATS stream",
    );
  } catch (error) {
    // Another process was faster, with other settings: its stream stands.
    const other = await findStream(manager, name);
    if (!other) throw error;
    await adopt(manager, other, subjects);
  }
}

export function streamConfig(name: string, subjects: string, options: NatsOptions) {
  return {
    name,
    description: "Changes captured by replicator",
    subjects: [subjects],
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    max_age: nanos(options.retentionMs),
    // I5: should a limit ever be set on it, a full stream refuses (the backlog stays in the queue) and drops nothing unread.
    discard: DiscardPolicy.New,
    max_msg_size: MAX_MESSAGE_BYTES,
    duplicate_window: nanos(Math.min(DUPLICATE_WINDOW_MS, options.retentionMs)),
    // Lag is counted by direct get, from any replica.
    allow_direct: true,
  } satisfies Partial<StreamConfig>;
}

async function adopt(manager: JetStreamManager, info: StreamInfo, subjects: string): Promise<void> {
  const { config } = info;
  const unsuited = config.mirror
    ? "is a mirror of another stream and takes in nothing"
    : config.sealed
      ? "is sealed"
      : config.no_ack
        ? "does not confirm messages (no_ack)"
        : config.retention !== RetentionPolicy.Limits
          ? `has the retention "${config.retention}", which removes messages another group has not read`
          : null;
  if (unsuited) {
    throw new ReplicatorError({
      code: "broker.stream_unsuitable",
      message: `Cannot use the NATS stream "${config.name}": it ${unsuited}`,
      retry: "never",
      fault: "environment",
      remedy: `Remove it once it is not needed (nats stream rm ${config.name}), or choose another prefix: nats.stream`,
    });
  }
  const own = config.subjects ?? [];
  if (own.some((pattern) => covers(pattern, subjects))) return;
  // A narrower pattern of its own (`replicator.a.changes`) would overlap with ours: those it covers give way to it.
  const kept = own.filter((pattern) => !covers(subjects, pattern));
  if (kept.some((pattern) => overlaps(pattern, subjects))) {
    throw new ReplicatorError({
      code: "broker.subject_overlap",
      message: `Cannot add the subjects "${subjects}" to the NATS stream "${config.name}": they overlap with its "${kept.join('", "')}"`,
      retry: "never",
      fault: "environment",
      remedy: `nats stream edit ${config.name} --subjects "${subjects}"`,
    });
  }
  await manager.streams.update(config.name, { ...config, subjects: [...kept, subjects] });
}

/**
 * The first message of a subject at or behind a sequence; null when there is none, or none known to the copy that was
 * asked. By direct get where the stream allows it: that works while the cluster has no leader, which all other requests
 * need.
 * @throws the client's errors
 */
export function nextMessage(
  manager: JetStreamManager,
  { config }: Pick<StreamInfo, "config">,
  sequence: number,
  subject: string,
): Promise<StoredMsg | null> {
  const query = { seq: sequence, next_by_subj: subject };
  return config.allow_direct
    ? manager.direct.getMessage(config.name, query)
    : manager.streams.getMessage(config.name, query);
}
