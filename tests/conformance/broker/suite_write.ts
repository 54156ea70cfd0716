/** Channels and the publisher's side of the Broker port. */
import { expect } from "bun:test";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { MESSAGE_LIMIT } from "../../../src/core/message.ts";
import type { Case } from "./suite.ts";
import {
  Claimant,
  encoder,
  failures,
  feedOf,
  message,
  messages,
  newChannel,
  range,
  sendAll,
  sequenceOf,
  take,
  unique,
  within,
} from "./suite_support.ts";

export function writeCases(test: Case): void {
  test("ensureChannel is safe to call twice and by several processes at once", async (world) => {
    const one = world.open();
    const two = world.open();
    const channel = newChannel({ partitions: 2 });
    const signal = world.signal();
    await Promise.all([
      one.ensureChannel(channel, signal),
      one.ensureChannel(channel, signal),
      two.ensureChannel(channel, signal),
    ]);
    await two.ensureChannel(channel, signal);
    await sendAll(one, channel, [message(channel, 1, { partition: 1 })]);
    await one.ensureChannel(channel, signal);
    const claim = await new Claimant(two, feedOf(two, channel), unique("g")).claim(1);
    expect((await take(claim, null, 1)).map(sequenceOf)).toEqual([1]);
  });

  test("feeds puts every channel into exactly one feed, default channels of two contours into two", async (world) => {
    const broker = world.open();
    const a = newChannel();
    const b = newChannel();
    const shared = unique("t");
    const events = [a, b].map((channel) =>
      newChannel({ contour: channel.contour, name: shared, kind: "events", partitions: 3 }),
    );
    const all = [a, b, ...events];
    const feeds = broker.feeds(all);
    for (const channel of all) expect(feeds.filter((feed) => feed.channels.includes(channel)).length).toBe(1);
    expect(new Set([a, b].map((channel) => feeds.find((feed) => feed.channels.includes(channel))?.name)).size).toBe(2);
    expect(new Set(feeds.map((feed) => feed.name)).size).toBe(feeds.length);
    for (const feed of feeds) {
      expect(feed.partitions).toBe(Math.max(...feed.channels.map((channel) => channel.partitions)));
    }
  });

  test("send gives one outcome a message, in order, and none for nothing", async (world) => {
    const broker = world.open();
    const channel = await world.ensured(broker);
    const publisher = broker.publisher();
    expect(await publisher.send(channel, [], 5_000)).toEqual([]);
    const outcomes = await publisher.send(channel, messages(channel, 1, 250), 20_000);
    expect(outcomes.length).toBe(250);
    expect(failures(outcomes)).toEqual([]);
  });

  test("messages keep their bytes, key and headers", async (world) => {
    const broker = world.open();
    const channel = await world.ensured(broker, { kind: "events" });
    const every = Uint8Array.from({ length: 1024 }, (_, i) => i % 256);
    const list = [
      message(channel, 1, { body: every, key: null }),
      message(channel, 2, { body: new Uint8Array(0), key: '{"id":42}' }),
      message(channel, 3, { key: '{"имя":"Жанна \\"d\'Arc\\" 😀"}' }),
      message(channel, 4, {
        headers: { ...message(channel, 4).headers, "replicator-table": '"Мои таблицы"."order 😀"', empty: "" },
      }),
    ];
    await sendAll(broker, channel, list);
    const claim = await new Claimant(broker, feedOf(broker, channel), unique("g")).claim();
    const got = await take(claim, null, list.length);
    for (const [i, delivery] of got.entries()) {
      const sent = list[i];
      if (!sent) throw new Error("More deliveries than messages");
      expect(Buffer.from(delivery.body).equals(Buffer.from(sent.body))).toBe(true);
      expect(delivery.key).toBe(sent.key);
      for (const [name, value] of Object.entries(sent.headers)) expect(delivery.headers[name]).toBe(value);
      expect(delivery.attempt).toBeGreaterThanOrEqual(1);
    }
  });

  test("several sends and several partitions keep the order of each partition", async (world) => {
    const broker = world.open();
    const channel = await world.ensured(broker, { kind: "events", partitions: 3 });
    const publisher = broker.publisher();
    // Concurrent calls for different partitions, and each partition's messages over several calls.
    await Promise.all(
      [0, 1, 2].map(async (partition) => {
        for (const first of [1, 101, 201]) {
          const list = messages(channel, first, first + 99, { partition });
          expect(failures(await publisher.send(channel, list, 20_000))).toEqual([]);
        }
      }),
    );
    // One call that mixes partitions.
    const mixed = range(301, 390).map((n) => message(channel, n, { partition: n % 3 }));
    expect(failures(await publisher.send(channel, mixed, 20_000))).toEqual([]);
    const claimant = new Claimant(broker, feedOf(broker, channel), unique("g"));
    for (const partition of [0, 1, 2]) {
      const expected = [...range(1, 300), ...range(301, 390).filter((n) => n % 3 === partition)];
      const got = await take(await claimant.claim(partition), null, expected.length);
      expect(got.map(sequenceOf)).toEqual(expected);
    }
  });

  test("a message of the product's limit passes, many in one call too", async (world) => {
    const broker = world.open();
    const channel = await world.ensured(broker);
    const body = new Uint8Array(MESSAGE_LIMIT).fill(120);
    await sendAll(broker, channel, messages(channel, 1, 6, { body }));
    const claim = await new Claimant(broker, feedOf(broker, channel), unique("g")).claim();
    const got = await take(claim, null, 6);
    expect(got.map((delivery) => delivery.body.byteLength)).toEqual([1, 2, 3, 4, 5, 6].map(() => MESSAGE_LIMIT));
  });

  test("a message above the broker's limit fails with broker.message_too_large, the others pass", async (world) => {
    const broker = world.open();
    const channel = await world.ensured(broker);
    const list = messages(channel, 1, 5);
    list[2] = message(channel, 3, { body: new Uint8Array(20_000_000) });
    const outcomes = await broker.publisher().send(channel, list, 20_000);
    expect(outcomes.map((outcome) => outcome.ok)).toEqual([true, true, false, true, true]);
    const error = failures(outcomes)[0];
    expect(error?.code).toBe("broker.message_too_large");
    expect(error?.retry).toBe("never");
    expect(error?.remedy).toBeTruthy();
    const claim = await new Claimant(broker, feedOf(broker, channel), unique("g")).claim();
    expect((await take(claim, null, 4)).map(sequenceOf)).toEqual([1, 2, 4, 5]);
  });

  test("a channel that was never made fails the send with a ReplicatorError, in its deadline", async (world) => {
    const broker = world.open();
    const channel = newChannel();
    const sending = broker.publisher().send(channel, messages(channel, 1, 3), 3_000);
    const outcomes = await within(6_000, "send to a missing channel", sending);
    expect(outcomes.length).toBe(3);
    for (const error of failures(outcomes)) expect(error).toBeInstanceOf(ReplicatorError);
    expect(failures(outcomes).length).toBe(3);
  });

  test("send after close fails every message with broker.closed", async (world) => {
    const broker = world.open();
    const channel = await world.ensured(broker);
    const publisher = broker.publisher();
    await publisher.close();
    await publisher.close();
    const outcomes = await publisher.send(channel, messages(channel, 1, 2), 5_000);
    expect(failures(outcomes).map((error) => error.code)).toEqual(["broker.closed", "broker.closed"]);
  });

  test(
    "20,000 messages of 1 kB pass quickly",
    async (world) => {
      const broker = world.open();
      const channel = await world.ensured(broker);
      const body = encoder.encode("x".repeat(1_000));
      const list = messages(channel, 1, 20_000, { body });
      const claimant = new Claimant(broker, feedOf(broker, channel), unique("g"));
      const claim = await claimant.claim();
      const started = performance.now();
      await sendAll(broker, channel, list);
      const sent = performance.now();
      const got = await take(claim, null, 20_000);
      const read = performance.now();
      expect(got.map(sequenceOf)).toEqual(range(1, 20_000));
      console.info(
        `20,000 messages: sent in ${(sent - started).toFixed(0)} ms, read in ${(read - sent).toFixed(0)} ms`,
      );
      expect(read - started).toBeLessThan(20_000);
    },
    { timeoutMs: 90_000 },
  );
}
