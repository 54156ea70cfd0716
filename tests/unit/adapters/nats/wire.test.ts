import { expect, test } from "bun:test";
import { MsgHdrsImpl } from "@nats-io/nats-core";
import fc from "fast-check";
import { decodeHeaders, EncodedHeaders, ID_HEADER } from "../../../../adapters/nats/wire.ts";

const message = (key: string | null, headers: Record<string, string>) => ({
  id: "a:1:changes:0:1",
  partition: 0,
  key,
  body: new Uint8Array(0),
  headers,
});
const received = (encoded: EncodedHeaders) => MsgHdrsImpl.decode(encoded.encode());

/** fast-check's own unit of all characters takes seconds to set up. */
const character = fc
  .oneof(
    fc.integer({ min: 0, max: 0x7f }),
    fc.integer({ min: 0x80, max: 0xd7ff }),
    fc.integer({ min: 0xe000, max: 0x10ffff }),
  )
  .map((point) => String.fromCodePoint(point));

test("headers and key come back as they were, whatever characters they hold", () => {
  const text = fc.oneof(
    fc.string({ unit: character }),
    fc.constantFrom("", " ", "%", "%41", " a ", "a\r\nNats-Msg-Id: x", '{"id":"ключ"}'),
  );
  fc.assert(
    fc.property(text, fc.option(text), (value, key) => {
      const headers = { "replicator-table": value, "replicator-epoch": "1" };
      expect(decodeHeaders(received(new EncodedHeaders(message(key, headers), "id")))).toEqual({ headers, key });
    }),
  );
});

test("plain values are readable on the wire, and the id is the one given", () => {
  const encoded = new EncodedHeaders(message('{"id": 42}', { "replicator-table": 'public."Мир"' }), "x:1");
  const text = new TextDecoder().decode(encoded.encode());
  expect(text).toContain('replicator-key: {"id": 42}\r\n');
  expect(text).toContain('replicator-table: public."Мир"\r\n');
  expect(received(encoded).get(ID_HEADER)).toBe("x:1");
});

test("a foreign message is shown as it came, without what NATS added", () => {
  const foreign = new MsgHdrsImpl();
  foreign.set("other", "100% sure");
  foreign.set("Nats-Expected-Stream", "s");
  expect(decodeHeaders(foreign)).toEqual({ headers: { other: "100% sure" }, key: null });
  expect(decodeHeaders(undefined)).toEqual({ headers: {}, key: null });
});
