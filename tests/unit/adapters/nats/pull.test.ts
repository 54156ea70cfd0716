/** The pull loop against a server that misbehaves in ways a real one does once a month. */
import { expect, test } from "bun:test";
import { type Msg, MsgHdrsImpl, type Subscription, type SubscriptionOptions } from "@nats-io/nats-core";
import { type PullOptions, PullSession } from "../../../../adapters/nats/pull.ts";
import { systemClock } from "../../../../src/core/clock.ts";
import { until } from "../../../support/until.ts";

interface Request {
  readonly inbox: string;
  readonly maxBytes: number;
}

/** Delivers what the test tells it to, as answers to the pull requests it got. */
class Server {
  readonly requests: Request[] = [];
  readonly #callbacks = new Map<string, NonNullable<SubscriptionOptions["callback"]>>();
  readonly nc: PullOptions["nc"] = {
    publish: (_subject, payload, options) => {
      const { max_bytes } = JSON.parse(String(payload));
      this.requests.push({ inbox: options?.reply ?? "", maxBytes: max_bytes });
    },
    subscribe: (subject, options) => {
      if (options?.callback) this.#callbacks.set(subject, options.callback);
      return { unsubscribe: () => this.#callbacks.delete(subject) } as Partial<Subscription> as Subscription;
    },
  };

  session(overrides: Partial<PullOptions> = {}): PullSession {
    const session = new PullSession({
      nc: this.nc,
      nextSubject: "next",
      nextDelivery: 1,
      after: 0,
      bufferBytes: 4_000_000,
      clock: systemClock,
      ...overrides,
    });
    session.start();
    return session;
  }

  deliver(streamSequence: number, delivery: number, bytes = 10, request = 0): void {
    this.#send(request, {
      subject: "replicator.a.changes",
      reply: `$JS.ACK._.acc.s.d.1.${streamSequence}.${delivery}.0.0.x`,
      data: new Uint8Array(bytes),
    });
  }

  status(code: number, description: string, headers: Record<string, string> = {}, request = 0): void {
    const encoded = new MsgHdrsImpl(code, description);
    for (const [name, value] of Object.entries(headers)) encoded.set(name, value);
    this.#send(request, { subject: this.requests[request]?.inbox ?? "", headers: encoded, data: new Uint8Array(0) });
  }

  #send(request: number, msg: Partial<Msg>): void {
    this.#callbacks.get(this.requests[request]?.inbox ?? "")?.(null, msg as Msg);
  }
}

test("a delivery that was lost on the way ends the session before a later one is given", async () => {
  const server = new Server();
  const session = server.session();
  server.deliver(10, 1);
  server.deliver(14, 3);
  expect((await session.next())?.streamSequence).toBe(10);
  expect(await session.next()).toBeNull();
  expect(session.end).toEqual({ reason: "gap" });
});

test("the last delivery of all, lost on the way, is noticed by the next heartbeat", async () => {
  const server = new Server();
  const session = server.session();
  server.deliver(10, 1);
  server.status(100, "Idle Heartbeat", { "Nats-Last-Consumer": "1" });
  expect(session.end).toBeNull();
  server.status(100, "Idle Heartbeat", { "Nats-Last-Consumer": "2" });
  expect(session.end).toEqual({ reason: "gap" });
  session.stop();
});

test("what is delivered again, or lies before the position, is dropped", async () => {
  const server = new Server();
  const session = server.session({ after: 5, nextDelivery: 7 });
  server.deliver(4, 7);
  server.deliver(5, 8);
  server.deliver(6, 9);
  server.deliver(6, 10);
  server.deliver(8, 11);
  expect([(await session.next())?.streamSequence, (await session.next())?.streamSequence]).toEqual([6, 8]);
  expect(session.end).toBeNull();
  session.stop();
});

test("I11: what is held and what is asked for never exceed the buffer; room that is made is asked for again", async () => {
  const server = new Server();
  const session = server.session();
  expect(server.requests.map(({ maxBytes }) => maxBytes)).toEqual([2_000_000, 2_000_000]);
  for (let n = 1; n <= 3; n++) server.deliver(n, n, 600_000, 0);
  server.status(409, "Message Size Exceeds MaxBytes", {}, 0);
  expect(server.requests.length).toBe(2);
  await session.next();
  await session.next();
  expect(server.requests.length).toBe(2);
  await session.next();
  expect(server.requests.length).toBe(3);
  expect(session.heldBytes).toBe(0);
  session.stop();
});

test("I11: what was taken is not kept while others still wait", async () => {
  const server = new Server();
  const session = server.session();
  const taken: WeakRef<Msg>[] = [];
  for (let n = 1; n <= 60; n++) server.deliver(n, n, 10_000);
  for (let n = 1; n <= 50; n++) taken.push(new WeakRef((await session.next())?.msg as Msg));
  await until("the messages taken are gone", () => {
    Bun.gc(true);
    const kept = taken.filter((message) => message.deref() !== undefined).length;
    // The collector is conservative about what lies on the stack.
    return kept <= 5 || kept;
  });
  expect((await session.next())?.streamSequence).toBe(51);
  session.stop();
});

test("a message that does not fit a whole request makes the next one larger", () => {
  const server = new Server();
  const session = server.session();
  server.status(409, "Message Size Exceeds MaxBytes", {}, 0);
  expect(server.requests.at(-1)?.maxBytes).toBe(4_000_000);
  session.stop();
});

test("a deleted durable, a moved leader and a refused request end the session with their reasons", () => {
  const ends: [number, string, object][] = [
    [409, "Consumer Deleted", { reason: "deleted" }],
    [503, "No Responders", { reason: "deleted" }],
    [409, "Leadership Change", { reason: "moved" }],
    [409, "Server Shutdown", { reason: "moved" }],
    [400, "Bad Request", { reason: "error", error: expect.any(Error) }],
  ];
  for (const [code, description, end] of ends) {
    const server = new Server();
    const session = server.session();
    server.status(code, description);
    expect(session.end).toEqual(end as never);
  }
});

test("a server that goes silent without a word ends the session as stalled", async () => {
  let now = 0;
  const sleeps: (() => void)[] = [];
  const clock = {
    ...systemClock,
    monotonic: () => now,
    sleep: () => new Promise<void>((resolve) => sleeps.push(resolve)),
  };
  const session = new Server().session({ clock });
  for (let beat = 0; beat < 3; beat++) {
    now += 3_000;
    sleeps.shift()?.();
    await Promise.resolve();
  }
  expect(await session.next()).toBeNull();
  expect(session.end).toEqual({ reason: "stalled" });
});
