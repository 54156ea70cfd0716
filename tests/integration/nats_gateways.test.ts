/** Two clusters of three servers joined by gateways: a contour's stream in its cluster, a mirror in the reader's. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import type { NatsBroker } from "../../adapters/nats/broker.ts";
import type { NatsOptions } from "../../adapters/nats/options.ts";
import type { Channel } from "../../src/core/channel.ts";
import { type NatsClusters, startNatsClusters } from "../servers/nats_cluster.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import {
  messages,
  natsBroker,
  never,
  newChannel,
  Reader,
  range,
  rejection,
  sendAll,
  streamOf,
} from "./nats_support.ts";

/** From the moment the gateway is back until everything has arrived. */
const RECOVERY_MS = 30_000;

describeWith("nats", "two NATS clusters joined by gateways", () => {
  let clusters: NatsClusters;
  let nc: NatsConnection;
  /** An administrator at cluster B. */
  let manager: JetStreamManager;
  const open: NatsBroker[] = [];
  const readers: Reader[] = [];

  beforeAll(async () => {
    clusters = await startNatsClusters();
    const { servers, user, password } = clusters.config("B");
    nc = await connect({ servers, user, pass: password, maxReconnectAttempts: -1 });
    manager = await jetstreamManager(nc, { checkAPI: false, timeout: 20_000 });
    await leader();
    // One of three is away, and all others start without it: they are a majority.
    await Promise.all(clusters.nodes.map((node) => node.kill()));
    await Promise.all(clusters.nodes.filter(({ name }) => name !== "nats-b-3").map((node) => node.start()));
    await leader();
  }, 120_000);
  afterEach(async () => {
    clusters.heal();
    for (const reader of readers.splice(0)) await reader.stop();
    for (const made of open.splice(0)) await made.close();
  });
  afterAll(async () => {
    await nc.close();
    await clusters.close();
  });

  const leader = () =>
    until(
      "JetStream has a leader",
      async () => {
        const answer = await rejection(manager.streams.info("none"));
        return String(answer).includes("not found") || String(answer);
      },
      60_000,
    );
  function broker(cluster: "A" | "B", options: Partial<NatsOptions> = {}): NatsBroker {
    const made = natsBroker({ ...clusters.config(cluster), ...options });
    open.push(made);
    return made;
  }
  function read(one: NatsBroker, channel: Channel, from?: Reader): Reader {
    const reader = new Reader(one, channel);
    reader.strict = true;
    if (from) {
      reader.position = from.position;
      reader.applied.push(...from.applied);
    }
    readers.push(reader);
    return reader;
  }
  const third = () => {
    const node = clusters.nodes.find(({ name }) => name === "nats-b-3");
    if (!node) throw new Error("There is no nats-b-3");
    return node;
  };
  const mirrorOf = (channel: Channel) => `${streamOf(channel)}_MIRROR_CLUSTER_B`;
  const codes = async (channel: Channel) => (await broker("B").check([channel], never)).map(({ code }) => code);
  async function mirrored(channel: Channel, sequence: number): Promise<void> {
    await until("the mirror has it", async () => {
      const { state } = await manager.streams.info(mirrorOf(channel));
      return state.last_seq === sequence || state.last_seq;
    });
  }

  test("a contour's stream lives in its cluster with three copies, its mirror in the reader's, and a position counts in both", async () => {
    const channel = newChannel();
    const sender = broker("A");
    const early = read(broker("B", { replicas: 3 }), channel);
    await sender.ensureChannel(channel, never);
    await sendAll(sender, channel, messages(channel, 1, 20));
    // While one of three servers is missing since the start there is no place for three copies: no mirror, and no waiting.
    await early.reached(20);
    expect(await codes(channel)).toContain("broker.mirror_missing");
    await third().start();
    const origin = await manager.streams.info(streamOf(channel));
    expect(origin.cluster?.name).toBe("CLUSTER_A");
    expect(origin.config).toMatchObject({ num_replicas: 3, placement: { cluster: "CLUSTER_A" } });
    await until("the reader reads the mirror", async () => (await durables(mirrorOf(channel))).length === 1);
    const mirror = await manager.streams.info(mirrorOf(channel));
    expect(mirror.cluster?.name).toBe("CLUSTER_B");
    expect(mirror.config).toMatchObject({
      num_replicas: 3,
      mirror: { name: streamOf(channel) },
      placement: { cluster: "CLUSTER_B" },
    });
    expect(mirror.state).toMatchObject({ first_seq: 1, last_seq: 20 });
    await early.stop();
    expect(early.position).toEqual({ identity: `${streamOf(channel)}@${origin.created}`, offset: "21" });
    // The same group goes on in the other cluster, from the stream itself.
    await sendAll(sender, channel, messages(channel, 21, 25));
    const there = read(broker("A"), channel, early);
    await there.reached(25);
    expect(there.applied).toEqual(range(1, 25));
    expect(there.position?.identity).toBe(early.position?.identity ?? "");
  }, 60_000);

  test("cut for longer than a mirror waits: both sides send and read on, a reader that restarts goes on, and all arrives after the heal", async () => {
    const [one, two] = [newChannel(), newChannel()];
    const [a, b] = [broker("A"), broker("B")];
    await a.ensureChannel(one, never);
    await b.ensureChannel(two, never);
    const [across, back] = [read(broker("B"), one), read(broker("A"), two)];
    await sendAll(a, one, messages(one, 1, 10));
    await sendAll(b, two, messages(two, 1, 10));
    await across.reached(10);
    await back.reached(10);
    await mirrored(one, 10);
    await until("the reader reads the mirror", async () => (await durables(mirrorOf(one))).length === 1);
    const near = read(broker("B"), two);
    await near.reached(10);

    await third().kill();
    clusters.cut();
    await until(
      "cluster B has noticed",
      async () => String(await rejection(manager.streams.info(streamOf(one)))).includes("unavailable"),
      60_000,
    );
    await sendAll(a, one, messages(one, 11, 500));
    await sendAll(b, two, messages(two, 11, 500));
    await near.reached(500);
    expect([across.applied.at(-1), back.applied.at(-1)]).toEqual([10, 10]);
    await across.stop();
    const restarted = read(broker("B"), one);
    // A ledger behind what the durable has given: what lies between comes from the mirror although nothing can be made.
    restarted.position = { identity: across.position?.identity ?? "", offset: "6" };
    restarted.applied.push(...range(1, 5));
    await restarted.reached(10);
    expect(await codes(one)).toContain("broker.stream_silent");

    const feed = b.feeds([one])[0];
    if (!feed) throw new Error("No feed");
    const position = { identity: across.position?.identity ?? "", offset: "11" };
    expect(await b.lag(feed, 0, position)).toEqual({ messages: null });
    clusters.heal();
    // What the mirror lacks is lag as well, although the server lets it answer for its origin.
    let lag: number | null = null;
    await until("the lag is known again", async () => {
      lag = (await b.lag(feed, 0, position)).messages;
      return lag !== null;
    });
    expect<number | null>(lag).toBe(490);
    await restarted.reached(500, RECOVERY_MS);
    await back.reached(500, RECOVERY_MS);
    expect(restarted.applied).toEqual(range(1, 500));
    expect(back.applied).toEqual(range(1, 500));
    await sendAll(a, one, messages(one, 501, 520));
    await restarted.reached(520);
    // Back, for the tests that follow.
    await third().start();
  }, 180_000);

  test("a stream made anew: its mirror, which goes on with the old numbers, is made anew too, and nothing is missing", async () => {
    const channel = newChannel();
    const sender = broker("A");
    await sender.ensureChannel(channel, never);
    const reader = read(broker("B"), channel);
    await sendAll(sender, channel, messages(channel, 1, 50));
    await reader.reached(50);
    await until("the reader reads the mirror", async () => (await durables(mirrorOf(channel))).length === 1);
    const before = await manager.streams.info(mirrorOf(channel));
    const { config } = await manager.streams.info(streamOf(channel));
    await manager.streams.delete(streamOf(channel));
    await manager.streams.add(config);
    await sendAll(sender, channel, messages(channel, 51, 60));
    await reader.reached(60);
    expect(reader.applied).toEqual(range(1, 60));
    expect(reader.claims.length).toBe(2);
    await until("the mirror is that of the new stream", async () => {
      const after = await manager.streams.info(mirrorOf(channel)).catch(() => null);
      return (after?.created !== before.created && after?.state.last_seq === 10) || after?.state;
    });
  }, 60_000);

  test("a mirror that holds another message under a number than its origin is made anew", async () => {
    const channel = newChannel();
    const sender = broker("A");
    await sender.ensureChannel(channel, never);
    const reader = read(broker("B"), channel);
    await sendAll(sender, channel, messages(channel, 1, 20));
    await reader.reached(20);
    await mirrored(channel, 20);
    await reader.stop();
    // As if the origin's servers had lost 1 … 20 together and given the numbers to others: the mirror keeps its own.
    const { config } = await manager.streams.info(streamOf(channel));
    await manager.streams.delete(streamOf(channel));
    const { created } = await manager.streams.add(config);
    const mirror = await manager.streams.info(mirrorOf(channel));
    const identity = `${streamOf(channel)}@${created}`;
    const metadata = { ...mirror.config.metadata, "replicator-origin": identity };
    await manager.streams.update(mirrorOf(channel), { ...mirror.config, metadata });
    await sendAll(sender, channel, messages(channel, 21, 45));
    const next = read(broker("B"), channel);
    next.applied.push(...range(1, 20));
    next.position = { identity, offset: "21" };
    // 41 lies behind position 21 of the new stream; what lies before it is read from the earliest message.
    await until("the mirror is that of the new stream", async () => {
      const after = await manager.streams.info(mirrorOf(channel)).catch(() => null);
      return (after?.created !== mirror.created && after?.state.last_seq === 25) || after?.state;
    });
    const whole = read(broker("B"), channel);
    whole.applied.push(...range(1, 20));
    await whole.reached(45);
    expect(whole.applied).toEqual(range(1, 45));
  }, 60_000);

  test("check says where streams live, that a mirror is missing, foreign or behind, with the command", async () => {
    const channel = newChannel();
    await broker("A").ensureChannel(channel, never);
    expect(await broker("B", { contour: channel.contour }).check([channel], never)).toContainEqual(
      expect.objectContaining({
        severity: "warning",
        code: "broker.stream_placement",
        remedy: `Move it: nats stream edit ${streamOf(channel)} --cluster CLUSTER_B`,
      }),
    );
    expect((await broker("A", { contour: channel.contour }).check([channel], never)).map(({ code }) => code)).toEqual([
      "broker.sync_interval",
    ]);
    expect(await codes(channel)).toEqual(["broker.sync_interval", "broker.remote_stream", "broker.mirror_missing"]);
    const reader = read(broker("B", { replicas: 1 }), channel);
    await until("the mirror is there", async () => (await codes(channel)).includes("broker.mirror_replicas"));
    await reader.stop();
    await manager.streams.delete(mirrorOf(channel));
    await manager.streams.add({ name: mirrorOf(channel), subjects: [`foreign.${channel.contour}`] });
    expect(await codes(channel)).toContain("broker.mirror_unsuitable");
    // Not touched, and read around.
    const around = read(broker("B"), channel);
    await sendAll(broker("A"), channel, messages(channel, 1, 5));
    await around.reached(5);
    expect((await manager.streams.info(mirrorOf(channel))).config.subjects).toEqual([`foreign.${channel.contour}`]);
  }, 60_000);

  async function durables(stream: string): Promise<unknown[]> {
    return manager.consumers
      .list(stream)
      .next()
      .catch(() => []);
  }
});
