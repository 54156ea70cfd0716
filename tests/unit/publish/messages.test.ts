import { describe, expect, test } from "bun:test";
import type { Channel } from "../../../src/core/channel.ts";
import type { Chunk, EventRow } from "../../../src/core/chunk.ts";
import { decodeFrame } from "../../../src/core/frame.ts";
import { MESSAGE_LIMIT, type Message, parseEnvelope } from "../../../src/core/message.ts";
import type { Cut } from "../../../src/core/source_store.ts";
import { eventMessages, frameMessages } from "../../../src/publish/messages.ts";

const cut: Cut = {
  cutNo: 7,
  epoch: 1,
  snapFrom: "1:1:",
  snapTo: "9:9:",
  layoutVersion: 1,
  frameBytes: 2_000,
  splitter: "greedy/1",
  takenAt: "2026-11-21T10:00:00.000000Z",
};
const frames: Channel = { contour: "a", name: "changes", kind: "frames", partitions: 1 };
const events: Channel = { contour: "a", name: "users_changes", kind: "events", partitions: 3 };

const chunk = (transaction: number, size: number): Chunk => ({
  schema: "public",
  table: "t",
  operation: "INSERT",
  transaction: String(transaction),
  first_queue_id: String(transaction),
  captured_at: "2026-11-21T10:00:00.000000Z",
  rows: 1,
  key: ["id"],
  stamp: ["version", "updated_at", "updated_by"],
  data: `{"id":"${"x".repeat(size)}"}`,
  old: null,
});
const event = (id: number, operation: EventRow["operation"] = "INSERT", body = `{"n":${id}}`): EventRow => ({
  key: operation === "TRUNCATE" ? "{}" : `{"id":${id}}`,
  body,
  table: "users",
  operation,
  queue_id: String(id),
});

async function* batches<T>(...all: readonly T[][]): AsyncGenerator<readonly T[]> {
  yield* all;
}

async function collect(messages: AsyncGenerator<Message[], number[]>): Promise<{ sent: Message[]; last: number[] }> {
  const sent: Message[] = [];
  for (;;) {
    const step = await messages.next();
    if (step.done) return { sent, last: step.value };
    sent.push(...step.value);
  }
}

describe("frame messages", () => {
  test("I13: a cut gives the same bytes and ids however it was read", async () => {
    const chunks = [chunk(1, 300), chunk(2, 900), chunk(2, 900), chunk(3, 5_000), chunk(4, 10)];
    const whole = await collect(frameMessages(frames, cut, [41], batches(chunks)));
    const piecemeal = await collect(frameMessages(frames, cut, [41], batches(...chunks.map((one) => [one]))));
    expect(piecemeal).toEqual(whole);
    expect(whole.last).toEqual([41 + whole.sent.length]);
    expect(whole.sent.map(({ id }) => id)).toEqual(whole.sent.map((_, n) => `a:1:changes:0:${42 + n}`));
  });

  test("I12: only the last message of a cut says that the cut ends, and parts name their transaction", async () => {
    const { sent } = await collect(
      frameMessages(frames, cut, [0], batches([chunk(1, 300), chunk(2, 1_900), chunk(2, 1_900), chunk(3, 10)])),
    );
    const envelopes = sent.map(({ headers }) => parseEnvelope(headers));
    expect(envelopes.map(({ cutEnd }) => cutEnd)).toEqual([...envelopes.slice(1).map(() => false), true]);
    expect(envelopes.flatMap(({ part }) => (part ? [`${part.transaction};${part.part};${part.last}`] : []))).toEqual([
      "2;1;false",
      "2;2;true",
    ]);
    for (const { body, headers } of sent) expect(decodeFrame(body).sequence).toBe(parseEnvelope(headers).sequence);
  });

  test("a cut without rows sends nothing and keeps the numbers", async () => {
    expect(await collect(frameMessages(frames, cut, [5], batches()))).toEqual({ sent: [], last: [5] });
  });
});

describe("event messages", () => {
  test("numbers run per partition, a key keeps its partition, each partition's last message ends the cut", async () => {
    const rows = Array.from({ length: 40 }, (_, n) => event(n % 10));
    const { sent, last } = await collect(eventMessages(events, cut, [10, 20, 30], batches(rows)));
    const partitionOfKey = new Map<string | null, number>();
    const next = [11, 21, 31];
    for (const message of sent) {
      const envelope = parseEnvelope(message.headers);
      expect(partitionOfKey.get(message.key) ?? message.partition).toBe(message.partition);
      partitionOfKey.set(message.key, message.partition);
      expect(envelope.sequence).toBe(next[message.partition] as number);
      next[message.partition] = envelope.sequence + 1;
      expect(envelope.cutEnd).toBe(envelope.sequence === last[message.partition]);
    }
    expect(sent.length).toBe(40);
  });

  test("TRUNCATE goes to every partition", async () => {
    const { sent, last } = await collect(eventMessages(events, cut, [0, 0, 0], batches([event(1, "TRUNCATE")])));
    expect(sent.map(({ partition }) => partition)).toEqual([0, 1, 2]);
    expect(last).toEqual([1, 1, 1]);
  });

  test("a row above the message limit travels in parts that join to its body", async () => {
    const body = `{"data":"${"й".repeat(1_200_000)}"}`;
    const { sent } = await collect(
      eventMessages(events, cut, [0, 0, 0], batches([event(1, "INSERT", body), event(1)])),
    );
    const parts = sent.filter(({ headers }) => parseEnvelope(headers).part);
    const decoder = new TextDecoder();
    expect(parts.map((message) => decoder.decode(message.body)).join("")).toBe(body);
    expect(parts.map(({ headers }) => parseEnvelope(headers).part?.last)).toEqual([
      ...parts.slice(1).map(() => false),
      true,
    ]);
    expect(new Set(parts.map(({ partition }) => partition)).size).toBe(1);
    for (const message of sent) expect(message.body.length).toBeLessThan(MESSAGE_LIMIT);
  });
});
