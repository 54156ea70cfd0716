/** Reading from a position: the ledger of the target decides, the broker's own memory never does. */
import { expect } from "bun:test";
import type { Claim, Delivery, Position } from "../../../src/core/broker.ts";
import { HEADER } from "../../../src/core/message.ts";
import type { Case } from "./suite.ts";
import {
  Claimant,
  decoder,
  encoder,
  feedOf,
  lastOf,
  message,
  messages,
  range,
  sendAll,
  sequenceOf,
  take,
  unique,
  Watch,
  type World,
  within,
} from "./suite_support.ts";

export function readCases(test: Case): void {
  test("read(null) begins at the earliest message and goes on with what comes", async (world) => {
    const { broker, channel, claim } = await filled(world, 10);
    const got: Delivery[] = [];
    const watch = new Watch();
    const stop = new AbortController();
    const reading = collect(claim, null, stop.signal, got, watch);
    await watch.until(20_000, "the messages sent before", () => got.length >= 10);
    await sendAll(broker, channel, messages(channel, 11, 15));
    await watch.until(20_000, "the messages sent after", () => got.length >= 15);
    expect(got.map(sequenceOf)).toEqual(range(1, 15));
    stop.abort();
    await within(5_000, "the read ends by its signal", reading);
  });

  test("every delivery's next resumes exactly behind it", async (world) => {
    const { claim } = await filled(world, 12);
    const all = await take(claim, null, 12);
    for (const delivery of [all[0], all[4], all[10]]) {
      if (!delivery) throw new Error("Expected 12 deliveries");
      const again = await take(claim, delivery.next, 12 - sequenceOf(delivery));
      expect(again.map(sequenceOf)).toEqual(range(sequenceOf(delivery) + 1, 12));
    }
  });

  test("a position at the tail waits and then gives the next message", async (world) => {
    const { broker, channel, claim } = await filled(world, 3);
    const tail = lastOf(await take(claim, null, 3)).next;
    const next = take(claim, tail, 1);
    await sendAll(broker, channel, [message(channel, 4)]);
    expect((await next).map(sequenceOf)).toEqual([4]);
  });

  test("positions hold in another process, acknowledged or not", async (world) => {
    const { broker, channel, claim, claimant, group } = await filled(world, 10);
    const got = await take(claim, null, 8);
    got[7]?.ack();
    const third = got[2]?.next ?? null;
    await claimant.stop();
    await broker.close();

    const other = world.open();
    const successor = new Claimant(other, feedOf(other, channel), group);
    const claimed = await successor.claim();
    expect((await take(claimed, third, 7)).map(sequenceOf)).toEqual(range(4, 10));
    expect((await take(claimed, null, 10)).map(sequenceOf)).toEqual(range(1, 10));
    // Another group knows nothing of the first one's acknowledgements, and its ledger has no position.
    const stranger = new Claimant(other, feedOf(other, channel), unique("g"));
    expect((await take(await stranger.claim(), null, 10)).map(sequenceOf)).toEqual(range(1, 10));
  });

  test("an unknown identity and an offset beyond the log mean the earliest message", async (world) => {
    const { claim } = await filled(world, 5);
    const last = lastOf(await take(claim, null, 5)).next;
    const strange: Position[] = [
      { identity: "another log", offset: last.offset },
      { identity: last.identity, offset: "999999999" },
    ];
    for (const from of strange) expect((await take(claim, from, 5)).map(sequenceOf)).toEqual(range(1, 5));
  });

  test(
    "a position older than what the log holds means the earliest message kept",
    async (world) => {
      const { channel, claim } = await filled(world, 10);
      const second = (await take(claim, null, 2))[1]?.next ?? null;
      await world.fixture.dropOldest?.(channel, 0, 5);
      expect((await take(claim, second, 5)).map(sequenceOf)).toEqual(range(6, 10));
      expect((await take(claim, null, 5)).map(sequenceOf)).toEqual(range(6, 10));
    },
    { needs: "dropOldest" },
  );

  test(
    "positions of a log that was deleted and made anew are not taken for its own",
    async (world) => {
      const { broker, channel, claim, claimant, group } = await filled(world, 5);
      const third = (await take(claim, null, 3))[2]?.next ?? null;
      await claimant.stop();
      await world.fixture.recreate?.(channel);
      await sendAll(broker, channel, messages(channel, 101, 110));
      const other = world.open();
      const claimed = await new Claimant(other, feedOf(other, channel), group).claim();
      expect((await take(claimed, third, 10)).map(sequenceOf)).toEqual(range(101, 110));
    },
    { needs: "recreate" },
  );

  test("ack is one-shot and never throws: twice, out of order, after the claim and the broker are gone", async (world) => {
    const { broker, claim, claimant } = await filled(world, 4);
    const [one, two, three, four] = await take(claim, null, 4);
    two?.ack();
    two?.ack();
    one?.ack();
    await claimant.stop();
    three?.ack();
    await broker.close();
    four?.ack();
    four?.nack(0);
  });

  test("nack ends the read and gives the message again after the delay", async (world) => {
    const { claim } = await filled(world, 5);
    const stop = new AbortController();
    const position = (await take(claim, null, 2))[1]?.next ?? null;
    const nacked = async () => {
      for await (const delivery of claim.read(position, stop.signal)) {
        expect(sequenceOf(delivery)).toBe(3);
        delivery.nack(300);
        // One-shot: the second is not heard.
        delivery.nack(60_000);
      }
    };
    await within(10_000, "a nacked read ends", nacked());
    const started = performance.now();
    const again = await take(claim, position, 3);
    expect(performance.now() - started).toBeGreaterThan(250);
    expect(again.map(sequenceOf)).toEqual([3, 4, 5]);
  });

  test("a second read ends the first", async (world) => {
    const { claim } = await filled(world, 6);
    const watch = new Watch();
    const first: Delivery[] = [];
    const reading = collect(claim, null, new AbortController().signal, first, watch);
    await watch.until(20_000, "the first read delivers", () => first.length >= 6);
    expect((await take(claim, first[1]?.next ?? null, 4)).map(sequenceOf)).toEqual(range(3, 6));
    await within(5_000, "the first read ends", reading);
    expect(first.length).toBe(6);
  });

  test("leaving the iteration early does not lose what was not taken", async (world) => {
    const { claim } = await filled(world, 50);
    const first = await take(claim, null, 7);
    const second = await take(claim, lastOf(first).next, 43);
    expect([...first, ...second].map(sequenceOf)).toEqual(range(1, 50));
  });

  test(
    "messages that are not ours are delivered as they are",
    async (world) => {
      const { broker, channel, claim } = await filled(world, 1);
      const body = Uint8Array.from([0, 255, 1, 254]);
      const foreign = { partition: 0, key: "k", body, headers: { other: "value" } };
      await world.fixture.sendForeign?.(channel, foreign);
      await world.fixture.sendForeign?.(channel, { ...foreign, key: null, body: new Uint8Array(0), headers: {} });
      await sendAll(broker, channel, [message(channel, 2)]);
      const got = await take(claim, null, 4);
      expect(got[1]?.body).toEqual(body);
      expect(got[1]?.headers.other).toBe("value");
      expect(got[1]?.headers[HEADER.format]).toBeUndefined();
      expect(got[2]?.body.byteLength).toBe(0);
      expect(decoder.decode(got[3]?.body)).toBe("body 2");
    },
    { needs: "sendForeign" },
  );

  test("lag counts the messages behind the tail, 0 for an empty channel", async (world) => {
    const broker = world.open();
    const channel = await world.ensured(broker);
    const feed = feedOf(broker, channel);
    expect(await broker.lag(feed, 0, null)).toEqual({ messages: 0 });
    await sendAll(broker, channel, messages(channel, 1, 10));
    expect(await broker.lag(feed, 0, null)).toEqual({ messages: 10 });
    const claim = await new Claimant(broker, feed, unique("g")).claim();
    const got = await take(claim, null, 10);
    expect(await broker.lag(feed, 0, got[3]?.next ?? null)).toEqual({ messages: 6 });
    expect(await broker.lag(feed, 0, lastOf(got).next)).toEqual({ messages: 0 });
  });

  test(
    "I11: a reader that does not take makes the broker hold a bounded number of bytes",
    async (world) => {
      const bufferBytes = 4_000_000;
      const sender = world.open();
      const channel = await world.ensured(sender);
      const body = encoder.encode("y".repeat(100_000));
      for (const first of [1, 101, 201, 301]) {
        await sendAll(sender, channel, messages(channel, first, first + 99, { body }));
      }
      const reader = world.open({ bufferBytes });
      const claim = await new Claimant(reader, feedOf(reader, channel), unique("g")).claim();
      const held = () => world.fixture.heldBytes?.(reader) ?? Number.NaN;
      let most = 0;
      let count = 0;
      for await (const delivery of claim.read(null, world.signal())) {
        count++;
        expect(sequenceOf(delivery)).toBe(count);
        most = Math.max(most, held());
        // Stands still for a second with 30 MB to come: time enough to fetch them all, were there no bound.
        if (count === 100) await standStill(1_000, () => (most = Math.max(most, held())));
        if (count === 400) break;
      }
      expect(most).toBeGreaterThan(0);
      expect(most).toBeLessThanOrEqual(bufferBytes + 1_000_000);
    },
    { needs: "heldBytes" },
  );
}

async function filled(world: World, count: number) {
  const broker = world.open();
  const channel = await world.ensured(broker);
  await sendAll(broker, channel, messages(channel, 1, count));
  const group = unique("g");
  const claimant = new Claimant(broker, feedOf(broker, channel), group);
  return { broker, channel, group, claimant, claim: await claimant.claim() };
}

async function collect(claim: Claim, from: Position | null, signal: AbortSignal, into: Delivery[], watch: Watch) {
  for await (const delivery of claim.read(from, signal)) {
    into.push(delivery);
    watch.changed();
  }
}

/** A reader busy with something else: nothing can be awaited, because what is tested is that nothing happens. */
function standStill(ms: number, look: () => void): Promise<void> {
  return new Promise((resolve) => {
    const looking = setInterval(look, 10);
    setTimeout(() => {
      clearInterval(looking);
      resolve();
    }, ms);
  });
}
