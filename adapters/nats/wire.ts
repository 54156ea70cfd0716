/** Messages as NATS carries them: our headers, the key, and the id the server removes duplicates by. */
import { type MsgHdrs, MsgHdrsImpl } from "@nats-io/nats-core";
import type { Message } from "../../src/core/message.ts";

/** NATS has no message key: it travels as a header. Absent means null. */
export const KEY_HEADER = "replicator-key";
export const ID_HEADER = "Nats-Msg-Id";

/**
 * Headers of a message, ready as bytes: the client's own encoding looks through all names for each one it adds, which
 * costs more than everything else a small message does.
 */
export class EncodedHeaders extends MsgHdrsImpl {
  readonly #bytes: Uint8Array;

  /** @param id what the server removes duplicates by; differs from the message's own for a resend that must be stored */
  constructor(message: Message, id: string) {
    super();
    let text = `NATS/1.0\r\n${ID_HEADER}: ${encodeValue(id)}\r\n`;
    for (const name in message.headers) text += `${name}: ${encodeValue(message.headers[name] ?? "")}\r\n`;
    if (message.key !== null) text += `${KEY_HEADER}: ${encodeValue(message.key)}\r\n`;
    this.#bytes = encoder.encode(`${text}\r\n`);
  }

  override encode(): Uint8Array {
    return this.#bytes;
  }
}

const encoder = new TextEncoder();

/** Our headers and the key of a delivery; what NATS adds (`Nats-…`) is left out. */
export function decodeHeaders(received: MsgHdrs | undefined): { headers: Record<string, string>; key: string | null } {
  const decoded: Record<string, string> = {};
  let key: string | null = null;
  if (received) {
    for (const [name, values] of received) {
      const value = decodeValue(values[0] ?? "");
      if (name === KEY_HEADER) key = value;
      else if (!name.startsWith("Nats-")) decoded[name] = value;
    }
  }
  return { headers: decoded, key };
}

/** The client trims values and refuses line ends: those characters, and `%` itself, travel percent-encoded. */
function encodeValue(value: string): string {
  if (PLAIN.test(value)) return value;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is escaped
  return value.replace(/[\u0000-\u001f\u007f%]|^\s|\s$/gu, (character) => encodeURIComponent(character));
}

/** Most values: nothing to encode. */
const PLAIN = /^[!-$&-~](?:[ -$&-~]*[!-$&-~])?$/;

function decodeValue(value: string): string {
  if (!value.includes("%")) return value;
  try {
    return decodeURIComponent(value);
  } catch (error) {
    // Not written by us (a foreign publisher): shown as it came.
    if (error instanceof URIError) return value;
    throw error;
  }
}
