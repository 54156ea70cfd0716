import { describe, expect, test } from "bun:test";
import type { KafkaMessage } from "kafkajs";
import { KafkaClaim, type PartitionControl } from "../../../adapters/kafka/claim.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { until } from "../../support/until.ts";

const feed = { name: "t", partitions: 1, channels: [] };

/** The consumer of the claim, as far as the claim sees it; `asked` says what it was told. */
function claimed() {
  const asked: string[] = [];
  const control: PartitionControl = {
    clock: systemClock,
    highBytes: 1_000_000,
    resolve: async (_, from) => ({ identity: "log", offset: from?.offset ?? "0" }),
    seek: (_, offset) => void asked.push(`seek ${offset}`),
    pause: () => void asked.push("pause"),
    resume: () => void asked.push("resume"),
    acknowledge: () => undefined,
    released: () => void asked.push("released"),
  };
  return { asked, claim: new KafkaClaim(feed, 0, control) };
}

function fetched(from: number, to: number): KafkaMessage[] {
  return Array.from({ length: to - from + 1 }, (_, n) => ({
    key: null,
    value: Buffer.from("v"),
    timestamp: "0",
    attributes: 0,
    headers: {},
    offset: String(from + n),
  }));
}

/** Begins a read and notes the offsets it gives. */
function reading(claim: KafkaClaim, offset: string, stop: AbortSignal) {
  const given: string[] = [];
  const ended = (async () => {
    for await (const { next } of claim.read({ identity: "log", offset }, stop)) given.push(next.offset);
  })();
  return { given, ended };
}

describe("a claim of a Kafka partition", () => {
  test("gives nothing from before the position asked for: a log that went back ends the claim, which is offered anew", async () => {
    const { asked, claim } = claimed();
    const { given, ended } = reading(claim, "5", new AbortController().signal);
    await until("it has begun", () => asked.includes("seek 5"));
    await claim.accept(fetched(3, 7), "7", 100);
    await ended;
    expect(given).toEqual([]);
    expect(claim.lost.aborted).toBe(true);
    expect(asked.at(-1)).toBe("released");
  });

  test("goes on where the earliest message lies behind the position", async () => {
    const { asked, claim } = claimed();
    const stop = new AbortController();
    const { given, ended } = reading(claim, "5", stop.signal);
    await until("it has begun", () => asked.includes("seek 5"));
    await claim.accept(fetched(8, 9), "9", 100);
    await until("both are given", () => given.length === 2);
    expect(given).toEqual(["9", "10"]);
    stop.abort();
    await ended;
  });

  test("what an earlier read has fetched does not move the next one: after a rebalance it goes on at its own position", async () => {
    const { asked, claim } = claimed();
    const stop = new AbortController();
    const first = reading(claim, "0", stop.signal);
    await until("it has begun", () => asked.includes("seek 0"));
    await claim.accept(fetched(0, 9), "9", 100);
    const second = reading(claim, "3", stop.signal);
    await until("the next one has begun", () => asked.includes("seek 3"));
    await first.ended;
    claim.passed({ batchSize: 10, lastOffset: "9" });
    claim.rejoin();
    expect(asked.at(-1)).toBe("seek 3");
    // Control records only: these reach nobody else.
    claim.passed({ batchSize: 0, lastOffset: "4" });
    claim.rejoin();
    expect(asked.at(-1)).toBe("seek 5");
    stop.abort();
    await second.ended;
  });
});
