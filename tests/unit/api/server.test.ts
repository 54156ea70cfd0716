import { describe, expect, test } from "bun:test";
import { startApi } from "../../../src/api/server.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import { report } from "./support.ts";

const source = {
  status: async () => report,
  ready: async () => ({ ready: true, reasons: [], suspended: [] }),
  metrics: async () => "",
};
const start = (port: number) => startApi({ host: "127.0.0.1", port, source, logger: silentLogger });

describe("startApi", () => {
  test("port 0 takes a free port; after close nobody listens, and a second close does nothing", async () => {
    const api = await start(0);
    expect((await fetch(`${api.url}/health`)).status).toBe(200);
    await api.close();
    await api.close();
    expect(fetch(`${api.url}/health`)).rejects.toThrow();
  });

  test("a port that is taken is the environment's fault and names its remedy", async () => {
    const first = await start(0);
    try {
      expect(start(first.port)).rejects.toMatchObject({
        code: "api.cannot_listen",
        fault: "environment",
        remedy: expect.stringContaining("--api-port"),
      });
    } finally {
      await first.close();
    }
  });
});
