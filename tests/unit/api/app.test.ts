import { describe, expect, test } from "bun:test";
import { createApp } from "../../../src/api/app.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import type { StatusSource } from "../../../src/core/status.ts";
import { report } from "./support.ts";

function app(parts: Partial<StatusSource> = {}, token?: string) {
  const source: StatusSource = {
    status: async () => report,
    ready: async () => ({ ready: true, reasons: [], suspended: [] }),
    metrics: async () => "replicator_lag_seconds 0\n",
    ...parts,
  };
  return createApp({ source, token, logger: silentLogger });
}

describe("the API", () => {
  test("GET /status answers with the report, GET /health with ok", async () => {
    const response = await app().request("/status");
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual(report);
    expect(response.headers.get("cache-control")).toBe("no-store");
    const health = await app().request("/health");
    expect([health.status, await health.json()]).toEqual([200, { status: "ok" }]);
  });

  test("GET /ready is 200, or 503 with the reasons; what is suspended it says with 200", async () => {
    expect((await app().request("/ready")).status).toBe(200);
    const away = { ready: false, reasons: ["broker: away"], suspended: [] };
    const response = await app({ ready: async () => away }).request("/ready");
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ reasons: ["broker: away"] });
    const parked = { ready: true, reasons: [], suspended: ["I12 suspended since x: 1 parked change in users"] };
    const suspended = await app({ ready: async () => parked }).request("/ready");
    expect(suspended.status).toBe(200);
    expect(await suspended.json()).toEqual({ status: "ready", reasons: [], suspended: parked.suspended });
  });

  test("GET /metrics is Prometheus text", async () => {
    const response = await app().request("/metrics");
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(await response.text()).toContain("replicator_lag_seconds 0");
  });

  test("/status and /metrics ask for the token, /health and /ready never do", async () => {
    const guarded = app({}, "topsecret");
    for (const path of ["/status", "/metrics"]) {
      for (const given of [undefined, "Bearer wrong", "Bearer topsecre", "Basic topsecret", "topsecret"]) {
        const response = await guarded.request(path, { headers: given === undefined ? {} : { Authorization: given } });
        expect(response.status).toBe(401);
        expect(response.headers.get("www-authenticate")).toStartWith("Bearer");
        expect(await response.text()).not.toContain("topsecret");
      }
      expect((await guarded.request(path, { headers: { Authorization: "Bearer topsecret" } })).status).toBe(200);
    }
    for (const path of ["/health", "/ready"]) expect((await guarded.request(path)).status).toBe(200);
  });

  test("a path that is not there is 404, a large body is refused, a failure tells nothing", async () => {
    expect((await app().request("/nothing")).status).toBe(404);
    const large = await app().request("/status", {
      method: "POST",
      body: "x".repeat(100_000),
      headers: { "Content-Length": "100000" },
    });
    expect(large.status).toBe(413);
    const failing = await app({ status: () => Promise.reject(new Error("postgres://u:p@h")) }).request("/status");
    expect([failing.status, await failing.json()]).toEqual([500, { error: "internal error" }]);
  });
});
