import { createMemoryBroker } from "../../../adapters/memory/broker.ts";
import { MemoryHub } from "../../../adapters/memory/hub.ts";
import { describeBroker } from "./suite.ts";

for (const sharedTopics of [false, true]) {
  describeBroker(
    sharedTopics ? "memory with topics shared by the contours" : "memory",
    async () => {
      const hub = new MemoryHub({ sharedTopics });
      const dead = new MemoryHub();
      dead.stop();
      return {
        broker: () => createMemoryBroker({ hub }),
        unreachable: () => createMemoryBroker({ hub: dead }),
        server: {
          stop: async () => hub.stop(),
          start: async () => hub.resume(),
          freeze: () => hub.pause(),
          thaw: () => hub.resume(),
        },
        sendForeign: async (channel, message) => {
          hub.log(hub.logName(channel))?.partitions[message.partition]?.append(message);
        },
        dropOldest: async (channel, partition, count) => {
          hub.log(hub.logName(channel))?.partitions[partition]?.forget(count);
        },
        recreate: async (channel) => {
          hub.delete(hub.logName(channel));
          hub.ensure(hub.logName(channel), channel.partitions);
        },
        close: async () => {},
      };
    },
    {
      claims: "shared",
      unreachable: true,
      wrongCredentials: "the hub is an object of the process, there is nobody to refuse",
      server: true,
      sendForeign: true,
      dropOldest: true,
      recreate: true,
      heldBytes: "a reader holds nothing: it looks at the shared log, whose bound tests/unit/memory/hub.test.ts guards",
    },
  );
}
