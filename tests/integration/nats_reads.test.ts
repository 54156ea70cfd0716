/** What people do to streams and durables while we read, and what a slow reader may hold. */
import { describe, expect, test } from "bun:test";
import type { Channel } from "../../src/core/channel.ts";
import { until } from "../support/until.ts";
import { messages, oneServer, Reader, range, sendAll, streamOf } from "./nats_support.ts";

const nats = oneServer();
const { broker, read, ensured } = nats;

describe("a running read", () => {
  test("goes on after its durable was deleted by hand, missing and repeating nothing", async () => {
    const one = broker();
    const channel = await ensured(one);
    const reader = read(one, channel);
    await sendAll(one, channel, messages(channel, 1, 10));
    await reader.reached(10);
    for (let round = 1; round <= 3; round++) {
      const [durable] = await nats.manager.consumers.list(streamOf(channel)).next();
      await nats.manager.consumers.delete(streamOf(channel), durable?.name ?? "");
      await sendAll(one, channel, messages(channel, round * 10 + 1, round * 10 + 10));
      await reader.reached(round * 10 + 10);
    }
    expect(reader.applied).toEqual(range(1, 40));
    expect(reader.claims.length).toBe(1);
  });

  test("goes on when its durable stands still: paused by hand, heartbeats go on and no message comes", async () => {
    const one = broker();
    const channel = await ensured(one);
    const reader = read(one, channel);
    await sendAll(one, channel, messages(channel, 1, 10));
    await reader.reached(10);
    const [durable] = await nats.manager.consumers.list(streamOf(channel)).next();
    await nats.manager.consumers.pause(streamOf(channel), durable?.name ?? "", new Date(Date.now() + 3_600_000));
    await sendAll(one, channel, messages(channel, 11, 20));
    await reader.reached(20);
    expect(reader.applied).toEqual(range(1, 20));
  }, 60_000);

  test("goes on behind a purge", async () => {
    const one = broker();
    const channel = await ensured(one);
    const reader = read(one, channel);
    await sendAll(one, channel, messages(channel, 1, 10));
    await reader.reached(10);
    await nats.manager.streams.purge(streamOf(channel));
    await sendAll(one, channel, messages(channel, 11, 20));
    await reader.reached(20);
    expect(reader.applied).toEqual(range(1, 20));
  });

  test("ends when the stream is made anew, and the new claim begins at its earliest message", async () => {
    const one = broker();
    const channel = await ensured(one);
    const reader = read(one, channel);
    await sendAll(one, channel, messages(channel, 1, 10));
    await reader.reached(10);
    const { config } = await nats.manager.streams.info(streamOf(channel));
    await nats.manager.streams.delete(streamOf(channel));
    await nats.manager.streams.add(config);
    await sendAll(one, channel, messages(channel, 11, 30));
    await reader.reached(30);
    expect(reader.applied).toEqual(range(1, 30));
    expect(reader.claims.length).toBe(2);
    expect(reader.claims[0]?.lost.aborted).toBe(true);
  });

  test("ends when the stream vanishes; its publisher makes it again by itself and the reader goes on", async () => {
    const one = broker();
    const channel = await ensured(one);
    const reader = read(broker(), channel);
    await sendAll(one, channel, messages(channel, 1, 10));
    await reader.reached(10);
    await nats.manager.streams.delete(streamOf(channel));
    await sendAll(one, channel, messages(channel, 11, 20), 2_000);
    await reader.reached(20);
    expect(reader.applied).toEqual(range(1, 20));
  });

  test("loses its claim to another process that reads with the same group, and does not fight back", async () => {
    const one = broker();
    const channel = await ensured(one);
    const first = new Reader(one, channel);
    await sendAll(one, channel, messages(channel, 1, 5));
    await first.reached(5);
    const second = read(broker(), channel);
    await second.reached(5);
    await until("the first reader's claim is lost", () => first.claims[0]?.lost.aborted === true);
    await first.stop();
    await sendAll(one, channel, messages(channel, 6, 9));
    await second.reached(9);
  });

  test("of another group is not disturbed", async () => {
    const one = broker();
    const channel = await ensured(one);
    const first = read(one, channel, "first");
    await sendAll(one, channel, messages(channel, 1, 5));
    await first.reached(5);
    const second = read(one, channel, "second");
    await second.reached(5);
    await sendAll(one, channel, messages(channel, 6, 9));
    await first.reached(9);
    await second.reached(9);
    expect([...first.claims, ...second.claims].map((claim) => claim.lost.aborted)).toEqual([false, false]);
  });

  test("I11: 300 messages of 900 kB pass through a buffer of 4 MB", async () => {
    const sender = broker();
    const channel = await ensured(sender);
    const body = new Uint8Array(900_000).fill(7);
    const slow = broker({ bufferBytes: 4_000_000 });
    const reader = read(slow, channel);
    let most = 0;
    for (let first = 1; first <= 300; first += 50) {
      await sendAll(sender, channel, messages(channel, first, first + 49, body), 20_000);
      most = Math.max(most, slow.heldBytes);
    }
    await reader.reached(300);
    expect(reader.applied).toEqual(range(1, 300));
    expect(most).toBeLessThanOrEqual(4_000_000);
  }, 60_000);

  test("lag counts its own subject, not what the control channel sends meanwhile", async () => {
    const one = broker();
    const channel = await ensured(one);
    const control: Channel = { ...channel, name: "control", kind: "events" };
    const reader = read(one, channel);
    await sendAll(one, channel, messages(channel, 1, 5));
    await reader.reached(5);
    await sendAll(one, control, messages(control, 1, 100));
    const [feed] = one.feeds([channel]);
    if (!feed) throw new Error("feeds() returned no feed");
    expect(await one.lag(feed, 0, reader.position)).toEqual({ messages: 0 });
    await reader.stop();
    await sendAll(one, channel, messages(channel, 6, 12));
    await sendAll(one, control, messages(control, 101, 200));
    expect(await one.lag(feed, 0, reader.position)).toEqual({ messages: 7 });
    expect(await one.lag(feed, 0, null)).toEqual({ messages: 12 });
  });
});
