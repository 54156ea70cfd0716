/** Streams that are there already, and what the server's memory of message ids hides. */
import { describe, expect, test } from "bun:test";
import { DiscardPolicy, RetentionPolicy } from "@nats-io/jetstream";
import { millis } from "@nats-io/transport-node";
import type { Channel } from "../../src/core/channel.ts";
import {
  failures,
  messages,
  never,
  newChannel,
  oneServer,
  range,
  rejection,
  sendAll,
  streamOf,
} from "./nats_support.ts";

const nats = oneServer();
const { broker, read, ensured } = nats;
async function stored(channel: Channel): Promise<number[]> {
  const sequences: number[] = [];
  const { state } = await nats.manager.streams.info(streamOf(channel));
  for (let at = state.first_seq; at <= state.last_seq; at++) {
    const message = await nats.manager.streams.getMessage(streamOf(channel), { seq: at });
    if (message) sequences.push(Number(message.header.get("replicator-sequence")));
  }
  return sequences;
}

describe("the stream of a contour", () => {
  test("is made on disk, kept by age only, and never drops what is unread to make room", async () => {
    const channel = await ensured(broker({ retentionMs: 7 * 86_400_000 }));
    const { config } = await nats.manager.streams.info(streamOf(channel));
    expect(config).toMatchObject({
      subjects: [`replicator.${channel.contour}.>`],
      storage: "file",
      retention: RetentionPolicy.Limits,
      discard: DiscardPolicy.New,
      max_msgs: -1,
      max_bytes: -1,
      num_replicas: 1,
    });
    expect(millis(config.max_age)).toBe(7 * 86_400_000);
    expect(millis(config.duplicate_window)).toBe(120_000);
  });

  test("is left as it is when it is there, whatever the configuration says", async () => {
    const channel = newChannel();
    await nats.manager.streams.add({
      name: streamOf(channel),
      subjects: [`replicator.${channel.contour}.>`],
      max_msgs: 7,
    });
    await broker().ensureChannel(channel, never);
    expect((await nats.manager.streams.info(streamOf(channel))).config).toMatchObject({ max_msgs: 7, max_age: 0 });
  });

  test("gets the contour's subjects when it has a part of them only", async () => {
    const channel = newChannel();
    await nats.manager.streams.add({
      name: streamOf(channel),
      subjects: [`replicator.${channel.contour}.changes`, `other.${channel.contour}`],
    });
    await broker().ensureChannel(channel, never);
    const { config } = await nats.manager.streams.info(streamOf(channel));
    expect(config.subjects).toEqual([`other.${channel.contour}`, `replicator.${channel.contour}.>`]);
  });

  test("is refused when it removes what another contour has not read", async () => {
    const channel = newChannel();
    await nats.manager.streams.add({
      name: streamOf(channel),
      subjects: [`replicator.${channel.contour}.>`],
      retention: RetentionPolicy.Workqueue,
    });
    const one = broker();
    expect(await rejection(one.ensureChannel(channel, never))).toMatchObject({
      code: "broker.stream_unsuitable",
      retry: "never",
    });
    expect(await one.check([channel], never)).toContainEqual(
      expect.objectContaining({ severity: "blocking", code: "broker.stream_retention" }),
    );
  });

  test("is refused when another stream has its subjects", async () => {
    const channel = newChannel();
    await nats.manager.streams.add({
      name: `foreign_${channel.contour}`,
      subjects: [`replicator.${channel.contour}.*`],
    });
    const error = await rejection(broker().ensureChannel(channel, never));
    expect(error).toMatchObject({
      code: "broker.subject_overlap",
      retry: "never",
      remedy: expect.stringContaining("nats.stream"),
    });
  });

  test("is refused with the configuration's path when it should have more copies than there are servers", async () => {
    const error = await rejection(broker({ replicas: 3 }).ensureChannel(newChannel(), never));
    expect(error).toMatchObject({
      code: "broker.insufficient_replicas",
      retry: "never",
      remedy: expect.stringContaining("nats.replicas"),
    });
  });

  test("limits that drop the oldest messages are a finding of check, with the command", async () => {
    const channel = newChannel();
    await nats.manager.streams.add({
      name: streamOf(channel),
      subjects: [`replicator.${channel.contour}.>`],
      max_bytes: 1_000_000,
      max_msg_size: 10_000,
    });
    const findings = await broker().check([channel], never);
    expect(findings).toContainEqual(
      expect.objectContaining({
        severity: "warning",
        code: "broker.stream_discard",
        remedy: `nats stream edit ${streamOf(channel)} --discard new`,
      }),
    );
    expect(findings).toContainEqual(
      expect.objectContaining({ severity: "blocking", code: "broker.stream_message_size" }),
    );
  });

  test("a full one fails the send with broker.storage_full and keeps what it has", async () => {
    const one = broker();
    const channel = await ensured(one);
    await nats.manager.streams.update(streamOf(channel), { max_msgs: 3 });
    const errors = failures(await one.publisher().send(channel, messages(channel, 1, 5), 5_000));
    expect(errors.map((error) => [error.code, error.retry])).toEqual([
      ["broker.storage_full", "backoff"],
      ["broker.storage_full", "backoff"],
    ]);
    expect(await stored(channel)).toEqual([1, 2, 3]);
  });
});

describe("I5: a confirmed message stands in the stream behind its predecessors", () => {
  test("resent after a purge, although the server remembers its id", async () => {
    const one = broker();
    const channel = await ensured(one);
    await sendAll(one, channel, messages(channel, 1, 5));
    await nats.manager.streams.purge(streamOf(channel));
    await sendAll(one, channel, messages(channel, 1, 5));
    expect(await stored(channel)).toEqual(range(1, 5));
  });

  test("resent after some were removed in the middle", async () => {
    const one = broker();
    const channel = await ensured(one);
    await sendAll(one, channel, messages(channel, 1, 6));
    await nats.manager.streams.deleteMessage(streamOf(channel), 3);
    await sendAll(one, channel, messages(channel, 2, 6));
    expect((await stored(channel)).slice(-4)).toEqual(range(3, 6));
  });

  test("resent behind one that had failed while they were stored", async () => {
    const one = broker();
    const channel = await ensured(one);
    const publisher = one.publisher();
    await publisher.send(channel, messages(channel, 1, 4), 5_000);
    // 5 was lost on its way, 6 and 7 arrived.
    await publisher.send(channel, messages(channel, 6, 7), 5_000);
    expect(failures(await publisher.send(channel, messages(channel, 5, 5), 5_000))).toEqual([]);
    expect(failures(await publisher.send(channel, messages(channel, 6, 8), 5_000))).toEqual([]);
    const reader = read(one, channel);
    reader.strict = true;
    await reader.reached(8);
    expect(reader.applied).toEqual(range(1, 8));
  });

  test("a plain resend is stored once", async () => {
    const one = broker();
    const channel = await ensured(one);
    await sendAll(one, channel, messages(channel, 1, 50));
    await sendAll(broker(), channel, messages(channel, 1, 50));
    await sendAll(one, channel, messages(channel, 1, 51));
    expect(await stored(channel)).toEqual(range(1, 51));
  });
});
