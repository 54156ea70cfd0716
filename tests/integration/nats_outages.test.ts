/** Servers that die, freeze, change their mind or lose their majority while we send and read. */
import { afterEach, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { connect } from "@nats-io/transport-node";
import type { NatsBroker } from "../../adapters/nats/broker.ts";
import type { NatsOptions } from "../../adapters/nats/options.ts";
import { type NatsServer, startNats } from "../servers/nats.ts";
import { freePort, scratch } from "../servers/scratch.ts";
import { until } from "../support/until.ts";
import {
  administrator,
  failures,
  listeningLogger,
  messages,
  natsBroker,
  newChannel,
  Reader,
  range,
  rejection,
  sendAll,
} from "./nats_support.ts";

const open: NatsBroker[] = [];
const readers: Reader[] = [];
const servers: NatsServer[] = [];
const never = new AbortController().signal;

afterEach(async () => {
  for (const reader of readers.splice(0)) await reader.stop();
  for (const made of open.splice(0)) await made.close();
  for (const server of servers.splice(0)) await server.close();
});
async function start(options: Parameters<typeof startNats>[0] = {}): Promise<NatsServer> {
  const server = await startNats(options);
  servers.push(server);
  return server;
}
function broker(options: Partial<NatsOptions> & Pick<NatsOptions, "servers">): NatsBroker {
  const made = natsBroker(options);
  open.push(made);
  return made;
}
function read(...given: ConstructorParameters<typeof Reader>): Reader {
  const reader = new Reader(...given);
  reader.strict = true;
  readers.push(reader);
  return reader;
}

describe("I8: a single server", () => {
  test("killed four times under load: every message arrives, in order", async () => {
    const server = await start();
    const sender = broker({ servers: [server.url] });
    const channel = newChannel();
    await sender.ensureChannel(channel, never);
    const reader = read(broker({ servers: [server.url] }), channel);
    let next = 1;
    for (let round = 0; round < 4; round++) {
      const sending = sendAll(sender, channel, messages(channel, next, next + 4_999, new Uint8Array(2_000)), 5_000);
      next += 5_000;
      const target = next - 3_000;
      await until("the load is under way", () => (reader.applied.at(-1) ?? 0) >= target || reader.applied.at(-1));
      await server.kill();
      await server.start();
      await sending;
    }
    await reader.reached(next - 1);
    expect(reader.applied).toEqual(range(1, next - 1));
    expect(reader.failure).toBeNull();
  }, 120_000);

  test("frozen for longer than heartbeats may stay away: the reader goes on, missing nothing", async () => {
    const server = await start();
    const sender = broker({ servers: [server.url] });
    const channel = newChannel();
    await sender.ensureChannel(channel, never);
    const { logger, lines } = listeningLogger();
    const reader = read(broker({ servers: [server.url], logger }), channel);
    await sendAll(sender, channel, messages(channel, 1, 10));
    await reader.reached(10);
    server.pause();
    await until(
      "the silence is noticed",
      () => lines.some((line) => line.includes("does not answer")) || lines,
      30_000,
    );
    server.unpause();
    await sendAll(sender, channel, messages(channel, 11, 20));
    await reader.reached(20);
    expect(reader.applied).toEqual(range(1, 20));
    await until("the log says that it is back", () => lines.some((line) => line.includes("again")) || lines);
  }, 90_000);

  test("not there yet, and gone for a while: one line in the log each, and one when it is back", async () => {
    const server = await start();
    await server.stop();
    const { logger, lines } = listeningLogger();
    const one = broker({ servers: [server.url], logger });
    const channel = newChannel();
    const ensuring = one.ensureChannel(channel, never);
    await until("the log says that the server is not there", () => lines.length > 0);
    expect(await rejection(one.ping(AbortSignal.timeout(1_000)))).toMatchObject({
      code: "broker.unreachable",
      retry: "backoff",
    });
    await server.start();
    await ensuring;
    await server.stop();
    const errors = failures(await one.publisher().send(channel, messages(channel, 1, 2), 1_000));
    expect(errors.map((error) => error.code)).toEqual(["broker.unreachable", "broker.unreachable"]);
    await server.start();
    await sendAll(one, channel, messages(channel, 1, 2));
    expect(lines.map((line) => line.split(":")[0])).toEqual([
      "Cannot connect to NATS at nats",
      "Connected to NATS again",
      "Made the NATS stream",
      "Lost the connection to NATS; connecting again until it answers",
      "Connected to NATS again",
    ]);
  }, 60_000);

  test("that refuses us after a restart: sends and reads end with broker.auth_failed", async () => {
    const folder = scratch("nats-users");
    const users = join(folder, "users.conf");
    const user = (password: string) => writeFileSync(users, `authorization { user: u, password: "${password}" }\n`);
    user("first");
    // An include is looked for beside the configuration, whose folder is a neighbour of ours.
    const server = await start({ config: `include ${JSON.stringify(`../${basename(folder)}/users.conf`)}` });
    const one = broker({ servers: [server.url], user: "u", password: "first" });
    const channel = newChannel();
    await one.ensureChannel(channel, never);
    await sendAll(one, channel, messages(channel, 1, 3));
    const reader = read(one, channel);
    await reader.reached(3);
    await server.stop();
    user("second");
    await server.start();
    const refused = { code: "broker.auth_failed", retry: "never" };
    await until("the read ends with the refusal", () => reader.failure !== null);
    expect(reader.failure).toMatchObject(refused);
    expect(failures(await one.publisher().send(channel, messages(channel, 4, 4), 5_000))[0]).toMatchObject(refused);
  }, 60_000);
});

describe("a cluster of three servers", () => {
  async function cluster(): Promise<NatsServer[]> {
    const ports = [await freePort(), await freePort(), await freePort()];
    const routes = ports.map((port) => `nats-route://127.0.0.1:${port}`).join(", ");
    const started = await Promise.all(
      ports.map((port, index) =>
        start({ name: `n${index}`, config: `cluster { name: c, listen: "127.0.0.1:${port}", routes: [ ${routes} ] }` }),
      ),
    );
    const first = started[0];
    if (!first) throw new Error("No server was started");
    const { nc, manager } = await administrator(first.url);
    await until("the cluster has a leader and three members", async () => {
      const answer = await rejection(manager.streams.add({ name: "probe", subjects: ["probe"], num_replicas: 3 }));
      return answer === null || String(answer);
    });
    await nc.close();
    return started;
  }

  test("keeps three copies, and the death of the server we use, or of the stream's leader, loses nothing", async () => {
    const nodes = await cluster();
    const urls = nodes.map((node) => node.url);
    const sender = broker({ servers: urls });
    const channel = newChannel();
    await sender.ensureChannel(channel, never);
    const reader = read(broker({ servers: urls }), channel);
    const { nc, manager } = await administrator(urls.join(","));
    const info = await manager.streams.info(`replicator_${channel.contour}`);
    // One cluster: nothing is mirrored.
    await until(
      "the reader has its durable",
      async () => (await manager.consumers.list(info.config.name).next()).length === 1,
    );
    const streams = await manager.streams.names().next();
    await nc.close();
    expect(streams.sort()).toEqual(["probe", info.config.name].sort());
    expect(info.config.num_replicas).toBe(3);
    let next = 1;
    const leader = nodes[Number(info.cluster?.leader?.slice(1) ?? 0)];
    for (const victim of [leader, ...nodes]) {
      const sending = sendAll(sender, channel, messages(channel, next, next + 1_999, new Uint8Array(1_000)), 5_000);
      next += 2_000;
      const target = next - 1_500;
      await until(
        "the load is under way",
        () => (reader.applied.at(-1) ?? 0) >= target || reader.applied.at(-1),
        60_000,
      );
      await victim?.kill();
      await sending;
      await reader.reached(next - 1);
      await victim?.start();
    }
    expect(reader.applied).toEqual(range(1, next - 1));
  }, 180_000);

  test("without its majority nothing new can be made: the old durable is read on from the ledger's position", async () => {
    const nodes = await cluster();
    const byName = new Map(nodes.map((node, index) => [`n${index}`, node]));
    const all = nodes.map((node) => node.url);
    const channel = newChannel();
    const maker = broker({ servers: all, replicas: 1 });
    await maker.ensureChannel(channel, never);
    await sendAll(maker, channel, messages(channel, 1, 10));
    const before = read(maker, channel);
    await before.reached(10);
    await before.stop();
    const { nc, manager } = await administrator(all.join(","));
    const info = await manager.streams.info(`replicator_${channel.contour}`);
    await nc.close();
    const home = byName.get(info.cluster?.leader ?? "");
    if (!home) throw new Error("The stream has no leader");
    await Promise.all(nodes.filter((node) => node !== home).map((node) => node.kill()));

    const direct = await connect({ servers: home.url });
    const created = await direct
      .request("$JS.API.STREAM.CREATE.other", JSON.stringify({ name: "other", subjects: ["other"] }), {
        timeout: 20_000,
      })
      .then((msg) => msg.string(), String);
    await direct.close();
    expect(created).toMatch(/10008|timeout/i);
    const one = broker({ servers: [home.url] });
    const reader = read(one, channel);
    // A ledger that stands behind what the durable has given, and another that stands before it.
    reader.position = { identity: before.position?.identity ?? "", offset: "5" };
    reader.applied.push(...range(1, 4));
    await reader.reached(10);
    await sendAll(one, channel, messages(channel, 11, 15));
    await reader.reached(15);
    expect(reader.applied).toEqual(range(1, 15));
  }, 120_000);
});
