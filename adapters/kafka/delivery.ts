/** A Kafka record as the engine sees it. */
import type { IHeaders, KafkaMessage } from "kafkajs";
import type { Delivery, Position } from "../../src/core/broker.ts";

const NOTHING = new Uint8Array(0);
const text = new TextDecoder();

export interface DeliveryHooks {
  readonly attempt: number;
  ack(next: string): void;
  nack(offset: string, delayMs: number): void;
}

export function deliveryOf(message: KafkaMessage, identity: string, hooks: DeliveryHooks): Delivery {
  // I11: acknowledgements outlive their messages, so ack and nack must not hold the body.
  const { offset } = message;
  const next: Position = { identity, offset: String(BigInt(offset) + 1n) };
  let settled = false;
  return {
    // A record without a value (a tombstone of some other program) has no body.
    body: message.value ?? NOTHING,
    key: message.key ? text.decode(message.key) : null,
    headers: headersOf(message.headers),
    next,
    attempt: hooks.attempt,
    ack() {
      if (settled) return;
      settled = true;
      hooks.ack(next.offset);
    },
    nack(delayMs) {
      if (settled) return;
      settled = true;
      hooks.nack(offset, delayMs);
    },
  };
}

/** Of a header that occurs several times the last one counts, as in Kafka's lastHeader(). */
function headersOf(headers: IHeaders | undefined): Record<string, string> {
  const result: Record<string, string> = {};
  for (const name in headers) {
    const value = headers[name];
    const last = Array.isArray(value) ? value[value.length - 1] : value;
    if (last !== undefined && last !== null) result[name] = typeof last === "string" ? last : text.decode(last);
  }
  return result;
}
