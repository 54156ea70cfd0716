import { describe, expect, test } from "bun:test";
import { Closers, Service } from "../../../src/core/service.ts";

const untilAborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));

describe("Service", () => {
  test("start resolves when the run says it is ready, stop waits for its end", async () => {
    const steps: string[] = [];
    const service = new Service({
      name: "s",
      run: async ({ signal, ready }) => {
        steps.push("run");
        ready();
        await untilAborted(signal);
        steps.push("cleaned");
      },
    });
    await service.start();
    expect(service.running).toBe(true);
    await service.stop();
    expect(steps).toEqual(["run", "cleaned"]);
    expect(service.running).toBe(false);
  });

  test("stop before start keeps the run from ever beginning", async () => {
    let ran = false;
    const service = new Service({
      name: "s",
      run: async () => {
        ran = true;
      },
    });
    await service.stop();
    await service.start();
    expect(ran).toBe(false);
  });

  test("a start that fails half way rejects with the cause and leaves a stopped service", async () => {
    const cause = new Error("no database");
    const service = new Service({ name: "s", run: () => Promise.reject(cause) });
    await expect(service.start()).rejects.toBe(cause);
    await service.stop();
    await service.stop();
    expect(service.failure).toBe(cause);
  });

  test("a second start is refused", async () => {
    const service = new Service({
      name: "s",
      run: async ({ signal, ready }) => {
        ready();
        await untilAborted(signal);
      },
    });
    await service.start();
    await expect(service.start()).rejects.toThrow("started twice");
    await service.stop();
  });

  test("500 services started and stopped in every interleaving end without a leftover", async () => {
    let alive = 0;
    const services = Array.from(
      { length: 500 },
      (_, n) =>
        new Service({
          name: `s${n}`,
          run: async ({ signal, ready }) => {
            alive++;
            try {
              if (n % 3 === 0) await Promise.resolve();
              if (n % 5 === 0) throw new Error("half started");
              ready();
              if (!signal.aborted) await untilAborted(signal);
            } finally {
              alive--;
            }
          },
        }),
    );
    await Promise.all(
      services.map(async (service, n) => {
        const starting = service.start().catch(() => undefined);
        if (n % 2 === 0) await starting;
        await Promise.all([service.stop(), service.stop(), starting]);
      }),
    );
    expect(alive).toBe(0);
    expect(services.filter(({ running }) => running)).toEqual([]);
  });
});

describe("Closers", () => {
  test("close runs last-in-first-out, tries all, and reports every error once", async () => {
    const order: string[] = [];
    const closers = new Closers();
    closers.add("a", () => void order.push("a"));
    closers.add("b", () => Promise.reject(new Error("b failed")));
    closers.add("c", () => void order.push("c"));
    await expect(closers.close()).rejects.toThrow("Closing left errors behind");
    expect(order).toEqual(["c", "a"]);
    await closers.close();
  });
});
