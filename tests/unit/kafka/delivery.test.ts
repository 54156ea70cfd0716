/** What a delivery keeps alive: acknowledgements of a large transaction wait for its end, bodies must not (I11). */
import { expect, test } from "bun:test";
import { deliveryOf } from "../../../adapters/kafka/delivery.ts";
import { until } from "../../support/until.ts";

test("I11: an acknowledgement does not hold the body of its message", async () => {
  const bodies: WeakRef<Uint8Array>[] = [];
  const acknowledged: string[] = [];
  const hooks = { attempt: 1, ack: (next: string) => acknowledged.push(next), nack: () => undefined };
  const acks = Array.from({ length: 50 }, (_, n) => {
    const value = Buffer.alloc(20_000);
    bodies.push(new WeakRef(value));
    // As one of a fetched batch: `size` belongs to the older message format only.
    const message = { key: null, value, timestamp: "0", attributes: 0, offset: String(n), headers: {} };
    return deliveryOf(message, "log", hooks).ack;
  });
  await until("the bodies are gone", () => {
    Bun.gc(true);
    const kept = bodies.filter((body) => body.deref() !== undefined).length;
    // The collector is conservative about what lies on the stack.
    return kept <= 5 || kept;
  });
  for (const ack of acks) ack();
  expect(acknowledged).toHaveLength(50);
});
