/** The NATS adapter behind the Broker suite, on a real nats-server with JetStream and a user. */
import { jetstreamManager } from "@nats-io/jetstream";
import { headers } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { createNatsBroker, type NatsBroker } from "../../../adapters/nats/broker.ts";
import type { Broker } from "../../../src/core/broker.ts";
import type { Channel } from "../../../src/core/channel.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import { startNats } from "../../servers/nats.ts";
import { freePort } from "../../servers/scratch.ts";
import { describeBroker } from "./suite.ts";

const CREDENTIALS = { user: "replicator", password: "right" };

describeBroker(
  "NATS",
  async () => {
    const server = await startNats(CREDENTIALS);
    const nobody = await freePort();
    const made = new Set<NatsBroker>();
    const broker = (servers: readonly string[], overrides: { bufferBytes?: number; password?: string } = {}) => {
      const created = createNatsBroker({
        servers,
        ...CREDENTIALS,
        retentionMs: 3_600_000,
        bufferBytes: 16_000_000,
        clock: systemClock,
        logger: silentLogger,
        ...overrides,
      });
      made.add(created);
      return created;
    };
    const admin = async () => {
      const nc = await connect({ servers: server.url, user: CREDENTIALS.user, pass: CREDENTIALS.password });
      return { nc, manager: await jetstreamManager(nc), close: () => nc.close() };
    };
    const subject = (channel: Channel, partition: number) =>
      `replicator.${channel.contour}.${channel.name}${channel.partitions > 1 ? `.${partition}` : ""}`;
    return {
      broker: (options = {}) => broker([server.url], options),
      unreachable: () => broker([`nats://127.0.0.1:${nobody}`]),
      wrongCredentials: () => broker([server.url], { password: "wrong" }),
      server: {
        stop: () => server.stop(),
        start: () => server.start(),
        freeze: () => server.pause(),
        thaw: () => server.unpause(),
      },
      async sendForeign(channel, message) {
        const { nc, close } = await admin();
        const added = headers();
        for (const [name, value] of Object.entries(message.headers)) added.set(name, value);
        await nc.request(subject(channel, message.partition), message.body, { timeout: 5_000, headers: added });
        await close();
      },
      async dropOldest(channel, partition, count) {
        const { manager, close } = await admin();
        const stream = `replicator_${channel.contour}`;
        for (let dropped = 0; dropped < count; dropped++) {
          const oldest = await manager.direct.getMessage(stream, { seq: 1, next_by_subj: subject(channel, partition) });
          if (oldest) await manager.streams.deleteMessage(stream, oldest.seq);
        }
        await close();
      },
      async recreate(channel) {
        const { manager, close } = await admin();
        const { config } = await manager.streams.info(`replicator_${channel.contour}`);
        await manager.streams.delete(config.name);
        await manager.streams.add(config);
        await close();
      },
      heldBytes: (instance: Broker) => [...made].find((one) => one === instance)?.heldBytes ?? Number.NaN,
      close: () => server.close(),
    };
  },
  {
    claims: "shared",
    unreachable: true,
    wrongCredentials: true,
    server: true,
    sendForeign: true,
    dropOldest: true,
    recreate: true,
    heldBytes: true,
  },
);
