/** Claims, several claimants, and what close, release and abort end. */
import { expect } from "bun:test";
import type { Claim } from "../../../src/core/broker.ts";
import type { BrokerCapabilities } from "./fixture.ts";
import type { Case } from "./suite.ts";
import {
  Claimant,
  Follower,
  feedOf,
  lastOf,
  messages,
  newChannel,
  range,
  sendAll,
  sequenceOf,
  take,
  unique,
  Watch,
  type World,
  within,
} from "./suite_support.ts";

const PARTITIONS = 4;

export function claimCases(test: Case, capabilities: BrokerCapabilities): void {
  test("claims waits until the feed exists", async (world) => {
    const broker = world.open();
    const channel = newChannel();
    const follower = new Follower(broker, feedOf(broker, channel), unique("g"));
    const owner = world.open();
    await owner.ensureChannel(channel, world.signal());
    await sendAll(owner, channel, messages(channel, 1, 3));
    await follower.received(3);
    expect(follower.sequences()).toEqual([1, 2, 3]);
    await follower.stop();
  });

  test("one claimant gets a claim of every partition", async (world) => {
    const { broker, feed } = await spread(world);
    const claimant = new Claimant(broker, feed, unique("g"));
    for (const partition of range(0, PARTITIONS - 1)) {
      const claim = await claimant.claim(partition);
      expect(claim.partition).toBe(partition);
      expect(claim.feed).toEqual(feed);
      expect(claim.lost.aborted).toBe(false);
    }
    expect(claimant.seen.length).toBe(PARTITIONS);
    await claimant.stop();
  });

  test("feeds of one process and one group do not disturb each other", async (world) => {
    const broker = world.open();
    const group = unique("g");
    const channels = [await world.ensured(broker), await world.ensured(broker), await world.ensured(broker)];
    const followers = channels.map((channel) => new Follower(broker, feedOf(broker, channel), group));
    for (const [i, channel] of channels.entries()) await sendAll(broker, channel, messages(channel, 1, i + 1));
    for (const [i, follower] of followers.entries()) {
      await follower.received(i + 1);
      expect(follower.sequences()).toEqual(range(1, i + 1));
      expect(follower.deliveries.every((d) => d.headers["replicator-contour"] === channels[i]?.contour)).toBe(true);
    }
    await followers[0]?.stop();
    const second = channels[1];
    if (second) await sendAll(broker, second, messages(second, 3, 4));
    await followers[1]?.received(4);
    for (const follower of followers) await follower.stop();
  });

  if (capabilities.claims === "assigned") assignedCases(test);
  else sharedCases(test);

  test("the signal of claims ends its iteration, its claims and their reads", async (world) => {
    const { broker, feed } = await spread(world);
    const claimant = new Claimant(broker, feed, unique("g"));
    const claim = await claimant.claim(0);
    const reading = drain(claim, new AbortController().signal);
    await claimant.stop(5_000);
    await within(5_000, "a blocked read ends", reading);
    expect(claim.lost.aborted).toBe(true);
    await claim.release();
  });

  test("the signal of a read ends it, blocked or not begun, and the claim lives on", async (world) => {
    const { broker, channel, feed } = await spread(world);
    const claim = await new Claimant(broker, feed, unique("g")).claim(0);
    const stop = new AbortController();
    const reading = drain(claim, stop.signal);
    stop.abort();
    await within(5_000, "a blocked read ends", reading);
    expect(await within(5_000, "a read whose signal is aborted", drain(claim, stop.signal))).toBe(0);
    await sendAll(broker, channel, messages(channel, 1, 2, { partition: 0 }));
    expect((await take(claim, null, 2)).map(sequenceOf)).toEqual([1, 2]);
  });

  test("release gives the partition back: its read ends, twice is safe, and it is offered anew", async (world) => {
    const { broker, channel, feed } = await spread(world);
    await sendAll(broker, channel, messages(channel, 1, 6, { partition: 1 }));
    const claimant = new Claimant(broker, feed, unique("g"));
    const claim = await claimant.claim(1);
    const got = await take(claim, null, 3);
    const reading = drain(claim, new AbortController().signal);
    await Promise.all([claim.release(), claim.release()]);
    await claim.release();
    await within(5_000, "the read of a released claim ends", reading);
    expect(claim.lost.aborted).toBe(true);
    const offered = await claimant.claim(1);
    expect(offered).not.toBe(claim);
    expect((await take(offered, lastOf(got).next, 3)).map(sequenceOf)).toEqual([4, 5, 6]);
  });

  test("close ends a blocked read and a blocked claims, and may be called twice and at once", async (world) => {
    const { broker, feed } = await spread(world);
    const claimant = new Claimant(broker, feed, unique("g"));
    const claim = await claimant.claim(0);
    const reading = drain(claim, new AbortController().signal);
    const missing = new Claimant(broker, feedOf(broker, newChannel()), unique("g"));
    await within(5_000, "close", Promise.all([broker.close(), broker.close()]));
    await broker.close();
    await within(2_000, "a blocked read ends", reading);
    await within(2_000, "a blocked claims ends", claimant.ended);
    await within(2_000, "a claims that waits for its feed ends", missing.ended);
    expect(claim.lost.aborted).toBe(true);
  });

  test("close of a broker that did nothing, and calls after close, end at once", async (world) => {
    const broker = world.open();
    await within(2_000, "close", broker.close());
    const channel = newChannel();
    const rejects = async (what: Promise<unknown>) => {
      const error = await within(
        2_000,
        "a call after close",
        what.then(
          () => null,
          (reason: unknown) => reason,
        ),
      );
      expect((error as { code?: unknown } | null)?.code).toBe("broker.closed");
    };
    await rejects(broker.ping(world.signal()));
    await rejects(broker.ensureChannel(channel, world.signal()));
    await rejects(broker.lag(feedOf(broker, channel), 0, null));
    await within(2_000, "claims after close", new Claimant(broker, feedOf(broker, channel), unique("g")).ended);
  });

  test("ping answers, check finds nothing that blocks and says how to mend what it finds", async (world) => {
    const broker = world.open();
    const channel = await world.ensured(broker);
    await broker.ping(world.signal());
    const findings = await broker.check([channel, newChannel()], world.signal());
    for (const finding of findings) {
      expect(finding.code).toMatch(/^broker\.[a-z_.]+$/);
      expect(finding.message.length).toBeGreaterThan(10);
      expect(finding.remedy.length).toBeGreaterThan(5);
    }
    expect(findings.filter((finding) => finding.severity === "blocking")).toEqual([]);
  });
}

function assignedCases(test: Case): void {
  test(
    "two claimants of a group share the partitions, and the one that stays gets all of them",
    async (world) => {
      const { broker, channel, feed } = await spread(world);
      const group = unique("g");
      const watch = new Watch();
      const one = new Claimant(broker, feed, group, watch);
      await one.claim(PARTITIONS - 1);
      const other = world.open();
      const two = new Claimant(other, feed, group, watch);
      await watch.until(
        30_000,
        "each partition is claimed by exactly one",
        () =>
          two.live.size > 0 &&
          one.live.size > 0 &&
          range(0, PARTITIONS - 1).every((p) => one.live.has(p) !== two.live.has(p)),
      );
      const moved = [...two.live.keys()][0] ?? 0;
      await sendAll(broker, channel, messages(channel, 1, 5, { partition: moved }));
      expect((await take(await two.claim(moved), null, 5)).map(sequenceOf)).toEqual(range(1, 5));
      // A claim that stayed with the first claimant reads on after the rebalance.
      const stayed = [...one.live.keys()][0] ?? 0;
      await sendAll(broker, channel, messages(channel, 1, 5, { partition: stayed }));
      expect((await take(await one.claim(stayed), null, 5)).map(sequenceOf)).toEqual(range(1, 5));

      await two.stop();
      await watch.until(15_000, "the first claimant has all partitions", () => one.live.size === PARTITIONS);
      expect((await take(await one.claim(moved), null, 5)).map(sequenceOf)).toEqual(range(1, 5));
      await one.stop();
    },
    { timeoutMs: 90_000 },
  );

  test(
    "a read that is under way when another claimant comes goes on where it was, or its claim is lost",
    async (world) => {
      const { broker, channel, feed } = await spread(world);
      const group = unique("g");
      const one = new Follower(broker, feed, group);
      await one.claimant.claim(PARTITIONS - 1);
      for (const partition of range(0, PARTITIONS - 1)) {
        await sendAll(broker, channel, messages(channel, 1, 20, { partition }));
      }
      await one.received(20 * PARTITIONS);
      const other = world.open();
      const two = new Follower(other, feed, group);
      await two.watch.until(30_000, "a claim of the second claimant", () => two.claimant.live.size > 0);
      for (const partition of range(0, PARTITIONS - 1)) {
        await sendAll(broker, channel, messages(channel, 21, 40, { partition }));
      }
      // The second one has no ledger and reads its partitions from the beginning; the first reads on, never back.
      const owned = two.claimant.live.size;
      await two.received(40 * owned);
      await one.received(20 * PARTITIONS + 20 * (PARTITIONS - owned));
      for (const partition of range(0, PARTITIONS - 1)) {
        const of = (follower: Follower) =>
          follower.deliveries
            .filter((delivery) => delivery.headers["replicator-partition"] === String(partition))
            .map(sequenceOf);
        const [first, second] = [of(one), of(two)];
        expect(first).toEqual(range(1, second.length > 0 ? 20 : 40));
        expect(second).toEqual(second.length > 0 ? range(1, 40) : []);
      }
      await Promise.all([one.stop(), two.stop()]);
    },
    { timeoutMs: 90_000 },
  );
}

function sharedCases(test: Case): void {
  test("two claimants of a group get every partition each and read independently", async (world) => {
    const { broker, channel, feed } = await spread(world);
    const group = unique("g");
    const other = world.open();
    const one = new Claimant(broker, feed, group);
    const two = new Claimant(other, feed, group);
    await sendAll(broker, channel, messages(channel, 1, 5, { partition: 2 }));
    const first = await one.claim(2);
    const second = await two.claim(2);
    const got = await take(first, null, 5);
    lastOf(got).ack();
    expect((await take(second, null, 5)).map(sequenceOf)).toEqual(range(1, 5));
    await one.stop();
    await sendAll(broker, channel, messages(channel, 6, 7, { partition: 2 }));
    expect((await take(second, lastOf(got).next, 2)).map(sequenceOf)).toEqual([6, 7]);
    expect(second.lost.aborted).toBe(false);
    await two.stop();
  });
}

/** A channel of several partitions; its messages name their partition in a header. */
async function spread(world: World) {
  const broker = world.open();
  const channel = await world.ensured(broker, { kind: "events", partitions: PARTITIONS });
  return { broker, channel, feed: feedOf(broker, channel) };
}

/** Reads until the iteration ends by itself. */
async function drain(claim: Claim, signal: AbortSignal): Promise<number> {
  let count = 0;
  for await (const _ of claim.read(null, signal)) count++;
  return count;
}
