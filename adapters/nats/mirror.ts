/**
 * The mirror of a foreign contour's stream in our own cluster. It keeps the sequence numbers of its origin, so a position
 * counts in the origin's log whichever of the two was read; the mirror is marked with the identity of the origin it was
 * filled from, because a server goes on filling it from any stream of that name.
 */
import {
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from "@nats-io/jetstream";
import { millis, nanos } from "@nats-io/nats-core";
import { ReplicatorError } from "../../src/core/errors.ts";
import { apiCode, NOT_FOUND } from "./errors.ts";
import type { Home } from "./home.ts";
import type { NatsOptions } from "./options.ts";
import { addStream, findStream, streamIdentity } from "./stream.ts";

/** Metadata of a mirror: the identity of its origin. */
const ORIGIN = "replicator-origin";
/** A mirror hears from its origin every second; the server itself looks every 10 s and then tries in steps of up to 2 minutes. */
const STALLED_MS = 5_000;

/** Contours have no capital letters: no stream of a contour has such a name. */
export function mirrorName(stream: string, cluster: string): string {
  return `${stream}_MIRROR_${cluster.replace(/[^A-Za-z0-9_-]/g, "_")}`;
}

/** The identity of the stream it was filled from; null where nobody wrote it down. */
export function mirroredIdentity(mirror: Pick<StreamInfo, "config">): string | null {
  return mirror.config.metadata?.[ORIGIN] ?? null;
}

/** Whether it hears nothing from its origin. Its own `lag` stays as it was then. */
export function isStalled({ mirror }: Pick<StreamInfo, "mirror">): boolean {
  return !mirror || mirror.active < 0 || millis(mirror.active) > STALLED_MS;
}

/**
 * Whether all from `next` on is, or is about to be, in the mirror.
 * @param next first sequence that is wanted
 */
export function serves(mirror: StreamInfo, origin: StreamInfo, next: number): boolean {
  if (mirror.state.last_seq + 1 < next) return false;
  return mirror.state.last_seq >= origin.state.last_seq || !isStalled(mirror);
}

export function mirrorConfig(origin: StreamInfo, home: Home, options: NatsOptions) {
  return {
    name: mirrorName(origin.config.name, home.cluster),
    description: "Changes of another cluster's contour, mirrored by replicator",
    mirror: { name: origin.config.name },
    placement: { cluster: home.cluster, tags: [] },
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    max_age: nanos(options.retentionMs),
    allow_direct: true,
    metadata: { [ORIGIN]: streamIdentity(origin) },
  } satisfies Partial<StreamConfig>;
}

/**
 * The mirror of the origin as it is now: made where it is missing, and anew where it was filled from another stream.
 * @param next the sequence to be read next; what lies before it must be the same in both
 * @throws the client's errors, and ReplicatorError for a stream of its name that is not ours
 */
export async function ensureMirror(
  manager: JetStreamManager,
  options: NatsOptions,
  { origin, home, next }: { readonly origin: StreamInfo; readonly home: Home; readonly next: number },
): Promise<StreamInfo> {
  const config = mirrorConfig(origin, home, options);
  const found = await findStream(manager, config.name);
  if (found) {
    const filledFrom = mirroredIdentity(found);
    if (found.config.mirror?.name !== origin.config.name || filledFrom === null) throw notOurs(config.name, origin);
    if (filledFrom === streamIdentity(origin) && !(await differs(manager, found, origin, next - 1))) return found;
    options.logger.info(
      { stream: config.name, origin: origin.config.name },
      "Removing the NATS mirror: its origin is not the stream any more that it was filled from",
    );
    await remove(manager, config.name);
  }
  try {
    const made = await addStream(manager, options, config, home);
    const { num_replicas: replicas } = made.config;
    options.logger.info(
      { stream: config.name, origin: origin.config.name, cluster: home.cluster, replicas },
      "Made the NATS mirror",
    );
    return made;
  } catch (error) {
    // Another process was faster, with other settings: its mirror stands.
    const other = await findStream(manager, config.name);
    if (!other || mirroredIdentity(other) !== streamIdentity(origin)) throw error;
    return other;
  }
}

/**
 * Whether the two hold different messages under one number. An origin whose servers lost their newest messages together
 * gives those numbers again, and the mirror, which has them, never takes in the second ones.
 */
async function differs(
  manager: JetStreamManager,
  mirror: StreamInfo,
  origin: StreamInfo,
  sequence: number,
): Promise<boolean> {
  if (sequence < 1 || sequence > Math.min(mirror.state.last_seq, origin.state.last_seq)) return false;
  // Not by direct get: the server lets a mirror answer for its origin.
  const get = ({ config }: StreamInfo) => manager.streams.getMessage(config.name, { seq: sequence });
  const [ours, theirs] = [await get(mirror), await get(origin)];
  // What one of them has dropped for its age says nothing.
  return ours !== null && theirs !== null && ours.timestamp !== theirs.timestamp;
}

async function remove(manager: JetStreamManager, name: string): Promise<void> {
  try {
    await manager.streams.delete(name);
  } catch (error) {
    if (apiCode(error) !== NOT_FOUND.stream) throw error;
  }
}

function notOurs(name: string, origin: StreamInfo): ReplicatorError {
  return new ReplicatorError({
    code: "broker.mirror_unsuitable",
    message: `Cannot use the NATS stream "${name}" as mirror of "${origin.config.name}": the replicator has not made it`,
    retry: "backoff",
    fault: "environment",
    remedy: `Remove it once it is not needed (nats stream rm ${name}); it is made anew`,
  });
}
