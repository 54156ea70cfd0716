/** Which cluster is ours, which copy of a log is read, where reading begins, and what check says of it. */
import { describe, expect, test } from "bun:test";
import type { StreamInfo } from "@nats-io/jetstream";
import { nanos, type ServerInfo } from "@nats-io/nats-core";
import { foreignCluster, homeOf } from "../../../../adapters/nats/home.ts";
import { isStalled, mirrorName, serves } from "../../../../adapters/nats/mirror.ts";
import { mirrorFindings } from "../../../../adapters/nats/placement_check.ts";
import { startSequence } from "../../../../adapters/nats/start_sequence.ts";

const home = { cluster: "B", servers: 3 };
const ORIGIN_CREATED = "2026-01-01T00:00:00Z";

function server(said: Partial<ServerInfo> & { domain?: string; cluster_dynamic?: boolean }): ServerInfo {
  const whole = { jetstream: true, cluster: "B", connect_urls: ["1", "2", "3"], ...said };
  return whole as unknown as ServerInfo;
}
function stream(last: number, more: Record<string, unknown> = {}): StreamInfo {
  const info = {
    config: { name: "replicator_a", num_replicas: 3, metadata: {} },
    created: ORIGIN_CREATED,
    state: { first_seq: 1, last_seq: last },
    cluster: { name: "A" },
    ...more,
  };
  return info as unknown as StreamInfo;
}
function mirror(last: number, silentMs: number, more: Record<string, unknown> = {}, config: object = {}): StreamInfo {
  return stream(last, {
    config: {
      name: mirrorName("replicator_a", "B"),
      mirror: { name: "replicator_a" },
      num_replicas: 3,
      metadata: { "replicator-origin": `replicator_a@${ORIGIN_CREATED}` },
      ...config,
    },
    mirror: { name: "replicator_a", lag: 0, active: silentMs < 0 ? -1 : nanos(silentMs) },
    cluster: { name: "B" },
    ...more,
  });
}

describe("our cluster", () => {
  test("is that of the server we are connected to", () => {
    expect(homeOf(server({}), undefined)).toEqual(home);
    expect(homeOf(server({ domain: "hub" }), "hub")).toEqual(home);
  });

  test("is unknown outside a cluster, under a made-up name, and where another server's JetStream answers", () => {
    expect(homeOf(undefined, undefined)).toBeNull();
    const { cluster: _, ...single } = server({});
    expect(homeOf(single, undefined)).toBeNull();
    expect(homeOf(server({ cluster_dynamic: true }), undefined)).toBeNull();
    expect(homeOf(server({ jetstream: false }), undefined)).toBeNull();
    expect(homeOf(server({ domain: "leaf" }), "hub")).toBeNull();
  });

  test("a stream is foreign only where both clusters are known", () => {
    expect(foreignCluster(stream(1), home)).toBe("A");
    expect(foreignCluster(stream(1), null)).toBeNull();
    expect(foreignCluster(mirror(1, 0), home)).toBeNull();
    expect(foreignCluster(stream(1, { cluster: { leader: "one" } }), home)).toBeNull();
  });
});

describe("a mirror", () => {
  test("has a name no contour's stream can have", () => {
    expect(mirrorName("replicator_a", "EU west.1")).toBe("replicator_a_MIRROR_EU_west_1");
  });

  test("stands still when it has heard nothing for longer than heartbeats take, or never anything", () => {
    expect([isStalled(mirror(1, 900)), isStalled(mirror(1, 60_000)), isStalled(mirror(1, -1))]).toEqual([
      false,
      true,
      true,
    ]);
  });

  test("is read while it is fed, or lacks nothing; never where it ends before what is wanted", () => {
    expect(serves(mirror(10, 100), stream(50), 5)).toBe(true);
    expect(serves(mirror(10, 60_000), stream(50), 5)).toBe(false);
    expect(serves(mirror(50, 60_000), stream(50), 51)).toBe(true);
    expect(serves(mirror(0, -1), stream(0), 1)).toBe(true);
    expect(serves(mirror(10, 100), stream(50), 12)).toBe(false);
  });

  test("check: silent about one that is well, with a finding for each thing that is not", () => {
    const codes = (origin: StreamInfo, copy: StreamInfo | null) =>
      mirrorFindings(origin, copy, home).map(({ code }) => code);
    expect(codes(stream(50), mirror(50, 100))).toEqual([]);
    expect(codes(stream(50), mirror(50, 60_000))).toEqual([]);
    expect(codes(stream(50), null)).toEqual(["broker.mirror_missing"]);
    expect(codes(stream(50, { created: "2026-02-02T00:00:00Z" }), mirror(50, 100))).toEqual(["broker.mirror_stale"]);
    expect(codes(stream(50), mirror(50, 100, {}, { metadata: {} }))).toEqual(["broker.mirror_unsuitable"]);
    expect(codes(stream(50), mirror(50, 100, { cluster: { name: "C" } }))).toEqual(["broker.mirror_placement"]);
    expect(codes(stream(50), mirror(50, 100, {}, { num_replicas: 1 }))).toEqual(["broker.mirror_replicas"]);
    const [lag] = mirrorFindings(stream(50), mirror(20, 42_000), home);
    expect(lag).toMatchObject({ severity: "warning", code: "broker.mirror_lag" });
    expect(lag?.message).toContain("30 messages behind and has heard nothing from its origin for 42 s");
    expect(lag?.remedy).toContain("nats stream cluster step-down replicator_a_MIRROR_B");
  });
});

describe("where reading begins", () => {
  const state = { first_seq: 5, last_seq: 20 };
  const from = (offset: string, identity = "x@1") => ({ identity, offset });

  test("at the position, also right behind the end", () => {
    expect([startSequence(from("7"), "x@1", state), startSequence(from("21"), "x@1", state)]).toEqual([7, 21]);
  });

  test("at the earliest message when the position means nothing in this log", () => {
    for (const position of [null, from("7", "x@2"), from("4"), from("22"), from("seven")]) {
      expect(startSequence(position, "x@1", state)).toBe(5);
    }
  });

  test("at the position as well when nobody can say how long the log is: the mirror may be behind it", () => {
    expect(startSequence(from("900"), "x@1", { ...state, last_seq: Number.POSITIVE_INFINITY })).toBe(900);
  });
});
