/** Names on NATS: subjects, streams, durables (interface §4, architecture §5). All pure. */

import type { Feed } from "../../src/core/broker.ts";
import type { Channel } from "../../src/core/channel.ts";
import { ReplicatorError } from "../../src/core/errors.ts";

/** The subject of a channel, without the partition: `replicator.<contour>.<name>`. */
export function channelSubject(channel: Pick<Channel, "contour" | "name">): string {
  for (const token of [channel.contour, ...channel.name.split(".")]) {
    if (token === "" || !/^[!-~]+$/.test(token) || token.includes("*") || token.includes(">")) {
      throw new ReplicatorError({
        code: "broker.bad_channel_name",
        message: `Cannot use "${channel.name}" of contour "${channel.contour}" as a NATS subject, expected printable characters without spaces, "*" and ">"`,
        retry: "never",
        fault: "input",
        remedy: "Give the table another topic: critical_tables[].topic",
      });
    }
  }
  return `replicator.${channel.contour}.${channel.name}`;
}

/** The subject of one partition; a channel with a single partition has no extra token. */
export function partitionSubject(subject: string, partitions: number, partition: number): string {
  return partitions > 1 ? `${subject}.${partition}` : subject;
}

/** Everything a contour sends, now and later: what its stream takes in. */
export function contourSubjects(contour: string): string {
  return `replicator.${contour}.>`;
}

export function streamName(prefix: string, contour: string): string {
  return `${prefix}_${contour}`;
}

/** The contour a feed belongs to: on NATS a feed is one channel of one contour. */
export function feedContour(feed: Feed): string {
  const channel = feed.channels[0];
  if (!channel) throw new Error(`Feed "${feed.name}" has no channel`);
  return channel.contour;
}

/**
 * The durable of a group for one partition. Consumer names allow no `.`, `*`, `>`, spaces or slashes, and the readable
 * part may collide once those are replaced: a hash of the exact names keeps them apart.
 */
export function durableName(group: string, subject: string): string {
  const readable = `${group}--${subject}`.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, 96);
  return `${readable}--${fnv1a(`${group}\n${subject}`)}`;
}

/** FNV-1a, 32 bit: enough to keep a handful of names apart, stable between releases and runtimes. */
function fnv1a(text: string): string {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16).padStart(8, "0");
}

/** Whether the subject pattern takes in everything the other pattern does. */
export function covers(pattern: string, subject: string): boolean {
  const left = pattern.split(".");
  const right = subject.split(".");
  for (const [index, token] of left.entries()) {
    const other = right[index];
    if (token === ">") return other !== undefined;
    if (other === undefined || other === ">") return false;
    if (token !== "*" && token !== other) return false;
  }
  return left.length === right.length;
}

/** Whether some subject belongs to both patterns. */
export function overlaps(one: string, two: string): boolean {
  const left = one.split(".");
  const right = two.split(".");
  for (let index = 0; ; index++) {
    const a = left[index];
    const b = right[index];
    if (a === undefined || b === undefined) return a === b;
    if (a === ">" || b === ">") return true;
    if (a !== "*" && b !== "*" && a !== b) return false;
  }
}
