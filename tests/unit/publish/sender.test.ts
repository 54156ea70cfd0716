import { expect, test } from "bun:test";
import type { Publisher, SendOutcome } from "../../../src/core/broker.ts";
import type { Channel } from "../../../src/core/channel.ts";
import type { Chunk } from "../../../src/core/chunk.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import type { Message } from "../../../src/core/message.ts";
import type { Cut, SourceStore } from "../../../src/core/source_store.ts";
import { Wake } from "../../../src/core/wake.ts";
import { newSenderStats } from "../../../src/publish/publisher.ts";
import { runSender } from "../../../src/publish/sender.ts";
import { until } from "../../support/until.ts";

const CHANNEL: Channel = { contour: "a", name: "changes", kind: "frames", partitions: 1 };

const cutOf = (cutNo: number): Cut => ({
  cutNo,
  epoch: 1,
  snapFrom: "1:1:",
  snapTo: "2:2:",
  layoutVersion: 1,
  frameBytes: 100_000,
  splitter: "greedy/1",
  takenAt: "2026-01-01T00:00:00.000000Z",
});

const chunkOf = (n: number): Chunk => ({
  schema: "public",
  table: "users",
  operation: "INSERT",
  transaction: String(n),
  first_queue_id: String(n),
  captured_at: "2026-01-01T00:00:00.000000Z",
  rows: 1,
  key: ["id"],
  stamp: ["version", "updated_at", "updated_by"],
  data: "x".repeat(90_000),
  old: null,
});

/** One cut of five frames; `answer` decides the outcomes of each send. */
function senderOf(answer: (messages: readonly Message[], attempt: number) => readonly SendOutcome[], leaseMs = 6_000) {
  const journal: string[] = [];
  const confirmed: { cutNo: number; sequences: readonly number[] }[] = [];
  const sent: Message[] = [];
  let terms = 0;
  const store = {
    lease: async () => ({ owner: "me", term: ++terms, expiresAt: systemClock.monotonic() + leaseMs }),
    releaseLease: async () => undefined,
    channelState: async () => ({ confirmedCut: confirmed.at(-1)?.cutNo ?? 0, sequences: [0], epoch: 1 }),
    cutsAfter: async (cutNo: number) => (cutNo < 1 ? [cutOf(1)] : []),
    async *readChunks() {
      for (let n = 1; n <= 5; n++) yield [chunkOf(n)];
    },
    partitions: async () => 1,
    confirm: async (_channel: string, _lease: unknown, cut: Cut, sequences: readonly number[]) => {
      journal.push(`confirm ${cut.cutNo}`);
      confirmed.push({ cutNo: cut.cutNo, sequences });
    },
  } satisfies Partial<SourceStore>;
  let attempt = 0;
  const publisher: Publisher = {
    send: async (_channel, messages) => {
      sent.push(...messages);
      const outcomes = answer(messages, ++attempt);
      for (const [n, outcome] of outcomes.entries())
        if (outcome.ok) journal.push(`stored ${messages[n]?.headers["replicator-sequence"]}`);
      return outcomes;
    },
    close: async () => undefined,
  };
  const stop = new AbortController();
  const health = { name: "sender", trouble: null, errors: 0, lastError: null };
  const running = runSender(
    {
      store: store as Partial<SourceStore> as SourceStore,
      publisher,
      channel: CHANNEL,
      owner: "me",
      leaseMs,
      sendDeadlineMs: 3_000,
      batchSize: 2,
      pollIntervalMs: 20,
      clock: systemClock,
      logger: silentLogger,
      health,
      stats: newSenderStats(),
      wake: new Wake(),
      onOwner: () => undefined,
      onSent: () => undefined,
      onMessages: () => undefined,
    },
    stop.signal,
  );
  return { journal, confirmed, sent, running, stop, attempts: () => attempt, terms: () => terms };
}

const OK: SendOutcome = { ok: true };
const FAILED: SendOutcome = {
  ok: false,
  error: new ReplicatorError({
    code: "broker.send_timeout",
    message: "no answer",
    retry: "backoff",
    fault: "environment",
  }),
};

test("I13: a cut is confirmed when every message of it is stored; failures are sent again, the same bytes, in order", async () => {
  // Every second send stores nothing but its first message.
  const sender = senderOf((messages, attempt) => messages.map((_, n) => (attempt % 2 === 0 && n > 0 ? FAILED : OK)));
  await until("the cut is confirmed", () => sender.confirmed.length > 0 || sender.journal);
  sender.stop.abort();
  await sender.running;
  expect(sender.journal).toEqual(["stored 1", "stored 2", "stored 3", "stored 4", "stored 5", "confirm 1"]);
  expect(sender.confirmed).toEqual([{ cutNo: 1, sequences: [5] }]);
  const bytes = new Map<string, string>();
  for (const { id, body } of sender.sent) {
    const text = Buffer.from(body).toString("base64");
    expect(bytes.get(id) ?? text).toBe(text);
    bytes.set(id, text);
  }
  expect(bytes.size).toBe(5);
});

test("I3: a cut of which a message was never stored is not confirmed", async () => {
  // The last message of the cut never gets through.
  const sender = senderOf((messages) =>
    messages.map(({ headers }) => (headers["replicator-sequence"] === "5" ? FAILED : OK)),
  );
  await until("it was tried again and again", () => sender.attempts() > 4);
  sender.stop.abort();
  await sender.running;
  expect(sender.journal).toEqual(["stored 1", "stored 2", "stored 3", "stored 4"]);
});

test("I8: nothing is sent when the lease has less time left than a send may take", async () => {
  const sender = senderOf((messages) => messages.map(() => OK), 2_000);
  await until("the lease was taken again and again", () => sender.terms() > 3);
  sender.stop.abort();
  await sender.running;
  expect(sender.sent).toEqual([]);
});
