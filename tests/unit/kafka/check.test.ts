import { describe, expect, test } from "bun:test";
import { topicFindings } from "../../../adapters/kafka/check.ts";

const context = { brokers: ["kafka-1:9092", "kafka-2:9092"], topic: {} };
const GOOD = {
  "cleanup.policy": "delete",
  "min.insync.replicas": "2",
  "retention.ms": "604800000",
  "retention.bytes": "-1",
  "max.message.bytes": "1048588",
  "unclean.leader.election.enable": "false",
};

function found(settings: Partial<Record<keyof typeof GOOD, string>>, partitions = 3, replicas = 3) {
  const state = { partitions, replicas, settings: new Map(Object.entries({ ...GOOD, ...settings })) };
  return topicFindings(context, "users", 3, state);
}

describe("Kafka's topic findings", () => {
  test("a well-kept topic gives none, one kept for ever neither", () => {
    expect(found({})).toEqual([]);
    expect(found({ "retention.ms": "-1" })).toEqual([]);
  });

  const cases: readonly [string, ReturnType<typeof found>, string, string, string][] = [
    ["fewer partitions", found({}, 2), "broker.too_few_partitions", "blocking", "--partitions 3"],
    ["one replica", found({}, 3, 1), "broker.replication_factor", "warning", "kafka-reassign-partitions.sh"],
    [
      "one replica in sync",
      found({ "min.insync.replicas": "1" }),
      "broker.min_insync_replicas",
      "warning",
      "min.insync.replicas=2",
    ],
    [
      "compaction",
      found({ "cleanup.policy": "compact,delete" }),
      "broker.compacted_topic",
      "blocking",
      "cleanup.policy=delete",
    ],
    [
      "short retention",
      found({ "retention.ms": "3600000" }),
      "broker.short_retention",
      "warning",
      "retention.ms=604800000",
    ],
    ["bounded size", found({ "retention.bytes": "1000" }), "broker.bounded_topic", "warning", "retention.bytes=-1"],
    [
      "small messages",
      found({ "max.message.bytes": "100000" }),
      "broker.max_message_bytes",
      "blocking",
      "max.message.bytes=2097152",
    ],
    [
      "unclean election",
      found({ "unclean.leader.election.enable": "true" }),
      "broker.unclean_leader_election",
      "warning",
      "=false",
    ],
  ];
  for (const [what, findings, code, severity, remedy] of cases) {
    test(`${what} is ${code}, with the command that mends it`, () => {
      expect(findings.map((finding) => [finding.code, finding.severity])).toEqual([
        [code, severity as (typeof findings)[number]["severity"]],
      ]);
      expect(findings[0]?.remedy).toContain(remedy);
      expect(findings[0]?.remedy).toContain("--bootstrap-server kafka-1:9092,kafka-2:9092");
    });
  }

  test("hidden settings are said, and the rest is still checked", () => {
    const findings = topicFindings(context, "users", 3, { partitions: 1, replicas: 3, settings: null });
    expect(findings.map(({ code }) => code)).toEqual(["broker.too_few_partitions", "broker.settings_hidden"]);
  });
});
