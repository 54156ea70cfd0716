import { describe, expect, test } from "bun:test";
import { Metrics } from "../../../src/core/metrics.ts";
import { report } from "../api/support.ts";

describe("Metrics", () => {
  test("counters and what the report says come out as Prometheus text with contour and service", async () => {
    const metrics = new Metrics({ contour: "active", service: "s" });
    metrics.publishedChanges.inc({ channel: "active/changes" }, 3);
    metrics.applySeconds.observe(0.02);
    const text = await metrics.text(report);
    const labels = 'contour="active",service="s"';
    expect(text).toContain(`replicator_published_changes_total{channel="active/changes",${labels}} 3`);
    expect(text).toContain(`replicator_lag_seconds{${labels}} 0.25`);
    expect(text).toContain(`replicator_unpublished{${labels}} 1`);
    expect(text).toContain(`replicator_parked_changes{${labels}} 2`);
    expect(text).toContain(`replicator_dead_letters{${labels}} 1`);
    expect(text).toContain(`replicator_i12_suspended{${labels}} 1`);
    expect(text).toContain(`replicator_i12_suspended_since_seconds{${labels}} 1767258000`);
    const none = await metrics.text({ ...report, parked: 0, dead: 0, suspended: [], suspended_since: null });
    expect(none).toContain(`replicator_i12_suspended{${labels}} 0`);
    expect(none).toContain(`replicator_i12_suspended_since_seconds{${labels}} 0`);
    expect(text).toContain(`replicator_apply_seconds_bucket{le="0.025",${labels}} 1`);
    expect(text).toContain(
      `replicator_channel_sequence{channel="active/changes",direction="out",partition="0",${labels}} 7`,
    );
  });

  test("two instances in one process share nothing", async () => {
    const [a, b] = [new Metrics({ contour: "a", service: "s" }), new Metrics({ contour: "b", service: "s" })];
    a.publishedMessages.inc({ channel: "x" });
    expect(await b.text(report)).not.toContain('replicator_published_messages_total{channel="x"');
  });
});
