import { describe, expect, test } from "bun:test";
import { createMemoryBroker } from "../../../adapters/memory/broker.ts";
import { MemoryHub } from "../../../adapters/memory/hub.ts";
import type { Broker, Claim } from "../../../src/core/broker.ts";
import { failures, feedOf, messages, newChannel, sequenceOf, take } from "../../conformance/broker/suite_support.ts";

const never = new AbortController().signal;

async function firstClaim(broker: Broker, channel: ReturnType<typeof newChannel>, group: string): Promise<Claim> {
  for await (const claim of broker.claims(feedOf(broker, channel), group, never)) return claim;
  throw new Error("claims() ended");
}

describe("memory hub", () => {
  test("I11: a full log makes send wait for its readers, and drops only what every group has acknowledged", async () => {
    const hub = new MemoryHub({ partitionBytes: 100_000 });
    const broker = createMemoryBroker({ hub });
    const channel = newChannel();
    await broker.ensureChannel(channel, never);
    const body = new Uint8Array(10_000);
    const outcomes = await broker.publisher().send(channel, messages(channel, 1, 20, { body }), 50);
    const passed = outcomes.filter((outcome) => outcome.ok).length;
    expect(passed).toBe(9);
    expect(new Set(failures(outcomes).map((error) => error.code))).toEqual(new Set(["broker.log_full"]));
    expect(failures(outcomes)[0]?.retry).toBe("backoff");

    // Claims stay as long as the iteration is open: this reads what is there through a claim that outlives the loop.
    const stop = new AbortController();
    const claims = broker.claims(feedOf(broker, channel), "one", stop.signal)[Symbol.asyncIterator]();
    const claim = (await claims.next()).value as Claim;
    const read = await take(claim, null, passed);
    expect(failures(await broker.publisher().send(channel, messages(channel, 10, 10, { body }), 50)).length).toBe(1);
    const waiting = broker.publisher().send(channel, messages(channel, 10, 12, { body }), 5_000);
    read[4]?.ack();
    expect(failures(await waiting)).toEqual([]);
    // What the group has not acknowledged is all there.
    expect((await take(claim, read[4]?.next ?? null, 7)).map(sequenceOf)).toEqual([6, 7, 8, 9, 10, 11, 12]);
    stop.abort();
  });

  test("nothing is dropped while no group has read", async () => {
    const hub = new MemoryHub({ partitionBytes: 20_000 });
    const broker = createMemoryBroker({ hub });
    const channel = newChannel();
    await broker.ensureChannel(channel, never);
    await broker.publisher().send(channel, messages(channel, 1, 10, { body: new Uint8Array(5_000) }), 20);
    const claim = await firstClaim(broker, channel, "late");
    expect(claim.partition).toBe(0);
    expect(hub.log(hub.logName(channel))?.partitions[0]?.earliest).toBe(0);
  });

  test("two brokers of one hub reach each other, those of another hub do not", async () => {
    const hub = new MemoryHub();
    const [one, two, stranger] = [hub, hub, new MemoryHub()].map((each) => createMemoryBroker({ hub: each }));
    if (!one || !two || !stranger) throw new Error("Expected three brokers");
    const channel = newChannel();
    await one.ensureChannel(channel, never);
    await one.publisher().send(channel, messages(channel, 1, 3), 1_000);
    expect(await two.lag(feedOf(two, channel), 0, null)).toEqual({ messages: 3 });
    expect(await stranger.lag(feedOf(stranger, channel), 0, null)).toEqual({ messages: null });
  });

  test("shared topics are one feed for all contours, default channels stay their own", () => {
    const broker = createMemoryBroker({ hub: new MemoryHub({ sharedTopics: true }) });
    const events = ["a", "b"].map((contour) => newChannel({ contour, name: "users", kind: "events", partitions: 2 }));
    const frames = ["a", "b"].map((contour) => newChannel({ contour }));
    const feeds = broker.feeds([...events, ...frames]);
    expect(feeds.map((feed) => [feed.name, feed.channels.length])).toEqual([
      ["users", 2],
      ["replicator.a.changes", 1],
      ["replicator.b.changes", 1],
    ]);
  });
});
