/** A server that stops, freezes, is not there, or refuses us: waits end, and work goes on afterwards by itself. */
import { expect } from "bun:test";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { until } from "../../support/until.ts";
import type { ServerControl } from "./fixture.ts";
import type { Case } from "./suite.ts";
import {
  Claimant,
  Follower,
  failures,
  feedOf,
  messages,
  newChannel,
  range,
  sendAll,
  unique,
  type World,
  within,
} from "./suite_support.ts";

export function outageCases(test: Case): void {
  test(
    "I8: a restart of the server: sends fail in their deadline and later pass, the reader goes on",
    async (world) => {
      const server = control(world);
      const { broker, channel, follower } = await following(world);
      await follower.received(10);
      const publisher = broker.publisher();
      await server.stop();
      let started = false;
      try {
        const outcomes = await within(6_000, "send", publisher.send(channel, messages(channel, 11, 13), 3_000));
        expect(failures(outcomes).length).toBe(3);
        for (const error of failures(outcomes)) {
          expect(error).toBeInstanceOf(ReplicatorError);
          expect(error.retry).not.toBe("never");
        }
        const ping = await within(15_000, "ping", rejection(broker.ping(world.signal())));
        expect(ping).toBeInstanceOf(ReplicatorError);
        await server.start();
        started = true;
      } finally {
        if (!started) await server.start();
      }
      await sendUntilConfirmed(() => publisher.send(channel, messages(channel, 11, 20), 5_000));
      await follower.watch.until(30_000, "message 20 at the reader", () => follower.sequences().includes(20));
      expect(unbroken(follower.sequences())).toEqual(range(1, 20));
      expect(follower.failure).toBeNull();
      await broker.ping(world.signal());
      await follower.stop();
    },
    { needs: "server", timeoutMs: 150_000 },
  );

  test(
    "a frozen server: send and ping end in time; thawed, sends pass and the reader goes on",
    async (world) => {
      const server = control(world);
      const { broker, channel, follower } = await following(world);
      await follower.received(10);
      const publisher = broker.publisher();
      server.freeze();
      try {
        const started = performance.now();
        const outcomes = await within(8_000, "send", publisher.send(channel, messages(channel, 11, 12), 2_000));
        expect(performance.now() - started).toBeLessThan(4_000);
        expect(failures(outcomes).map((error) => error.code)).toEqual(["broker.send_timeout", "broker.send_timeout"]);
        expect(failures(outcomes).map((error) => error.retry)).not.toContain("never");
        const ping = await within(20_000, "ping", rejection(broker.ping(world.signal())));
        expect(ping).toBeInstanceOf(ReplicatorError);
      } finally {
        server.thaw();
      }
      await sendUntilConfirmed(() => publisher.send(channel, messages(channel, 11, 20), 5_000));
      await follower.watch.until(60_000, "message 20 at the reader", () => follower.sequences().includes(20));
      expect(unbroken(follower.sequences())).toEqual(range(1, 20));
      await follower.stop();
    },
    { needs: "server", timeoutMs: 150_000 },
  );

  test(
    "close ends in time while the server is frozen, with a reader and a send under way",
    async (world) => {
      const server = control(world);
      const { broker, channel, follower } = await following(world);
      await follower.received(10);
      server.freeze();
      try {
        const sending = broker.publisher().send(channel, messages(channel, 11, 12), 30_000);
        await within(6_000, "close", broker.close());
        const outcomes = await within(2_000, "a send under way", sending);
        expect(failures(outcomes).length).toBe(2);
        await within(2_000, "claims", follower.claimant.ended);
      } finally {
        server.thaw();
      }
    },
    { needs: "server", timeoutMs: 90_000 },
  );

  test(
    "a server that is not there: ping and send say broker.unreachable and to wait, the others wait for their signal",
    async (world) => {
      const broker = world.adopt(required(world.fixture.unreachable)());
      const channel = newChannel();
      const error = await within(15_000, "ping", rejection(broker.ping(world.signal())));
      expect(error).toMatchObject({ code: "broker.unreachable", retry: "backoff", fault: "environment" });
      expect((error as ReplicatorError).remedy).toBeTruthy();
      const outcomes = await within(8_000, "send", broker.publisher().send(channel, messages(channel, 1, 2), 2_000));
      for (const failure of failures(outcomes)) expect(failure.retry).toBe("backoff");
      expect(failures(outcomes).length).toBe(2);

      const stop = new AbortController();
      const ensuring = rejection(broker.ensureChannel(channel, stop.signal));
      const claimant = new Claimant(broker, feedOf(broker, channel), unique("g"));
      // Both are at their first attempts when they are told to end; neither may have given up by then.
      await rejection(broker.ping(world.signal()));
      stop.abort();
      await within(3_000, "ensureChannel ends after its signal", ensuring);
      await claimant.stop(3_000);
      await within(3_000, "close", broker.close());
    },
    { needs: "unreachable" },
  );

  test(
    "refused credentials are an error that waiting does not help, everywhere",
    async (world) => {
      const broker = world.adopt(required(world.fixture.wrongCredentials)());
      const channel = newChannel();
      const refused = { retry: "never", fault: "environment" };
      const error = await within(15_000, "ping", rejection(broker.ping(world.signal())));
      expect(error).toMatchObject({ ...refused, code: "broker.auth_failed" });
      expect((error as ReplicatorError).remedy).toBeTruthy();
      const outcomes = await within(15_000, "send", broker.publisher().send(channel, messages(channel, 1, 1), 10_000));
      expect(failures(outcomes)[0]).toMatchObject(refused);
      expect(
        await within(15_000, "ensureChannel", rejection(broker.ensureChannel(channel, world.signal()))),
      ).toMatchObject(refused);
      const claimant = new Claimant(broker, feedOf(broker, channel), unique("g"));
      expect(await within(15_000, "claims", rejection(claimant.ended))).toMatchObject(refused);
    },
    { needs: "wrongCredentials" },
  );
}

async function following(world: World) {
  const broker = world.open();
  const channel = await world.ensured(broker);
  await sendAll(broker, channel, messages(channel, 1, 10));
  return { broker, channel, follower: new Follower(broker, feedOf(broker, channel), unique("g")) };
}

/** As the publisher does after a failure: the same bytes again, until all are confirmed. */
async function sendUntilConfirmed(send: () => Promise<readonly { readonly ok: boolean }[]>): Promise<void> {
  await until("a send passes again", async () => (await send()).every((outcome) => outcome.ok), 60_000);
}

/** What the ledger makes of it: a number that is not above the last one was delivered before. */
function unbroken(sequences: readonly number[]): number[] {
  const kept: number[] = [];
  for (const sequence of sequences) if (sequence > (kept[kept.length - 1] ?? 0)) kept.push(sequence);
  return kept;
}

function control(world: World): ServerControl {
  return required(world.fixture.server);
}

function required<T>(member: T | undefined): T {
  if (member === undefined) throw new Error("The fixture lacks a member its capabilities claim");
  return member;
}

function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => null,
    (error: unknown) => error,
  );
}
