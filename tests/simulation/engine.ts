/** One process of the engine on a host: the very roles that src/run.ts starts, over the model's ports. */

import type { Config } from "../../src/config/config.ts";
import { fileSchema } from "../../src/config/schema.ts";
import type { Broker } from "../../src/core/broker.ts";
import { isAbort } from "../../src/core/errors.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { Loops } from "../../src/core/loop.ts";
import { Metrics } from "../../src/core/metrics.ts";
import type { SourceStore } from "../../src/core/source_store.ts";
import type { TargetStore } from "../../src/core/target_store.ts";
import { ProcessStatus } from "../../src/process_status.ts";
import { consumerRole } from "../../src/roles/consumer_role.ts";
import type { Engine } from "../../src/roles/engine.ts";
import { publisherRole } from "../../src/roles/publisher_role.ts";
import { TABLES } from "./database/schema.ts";
import type { Host } from "./kernel/host.ts";

export interface EngineSettings {
  readonly contour: string;
  /** The other contours. */
  readonly from: readonly string[];
  readonly frameBytes: number;
  /** Messages in one send, and in one target transaction, at most. */
  readonly sendBatch: number;
  readonly applyBatch: number;
  readonly pollIntervalMs: number;
  /** Of the topic. */
  readonly partitions: number;
}

export interface EnginePorts {
  readonly broker: Broker;
  readonly source: SourceStore;
  readonly target: TargetStore;
}

/** Nobody reads them; a registry of its own for every process would cost more than the process. */
const metrics = new Metrics({ contour: "simulated", service: "simulation" });
const defaults = fileSchema.parse({
  critical_tables: TABLES.flatMap(({ name, topic }) => (topic === null ? [] : [{ name, topic }])),
});

/**
 * Runs both roles until the host is asked to stop. Resolves when all has ended.
 * @throws what ended a loop for good: nothing in the model's world may
 */
export async function runEngine(host: Host, settings: EngineSettings, ports: EnginePorts): Promise<void> {
  const { broker, source, target } = ports;
  const config = configOf(settings);
  const status = new ProcessStatus({
    config,
    version: "simulated",
    clock: host.clock,
    tables: [],
    counts: () => Promise.reject(new Error("Nobody asks")),
    metricsText: () => Promise.reject(new Error("Nobody asks")),
  });
  const engine: Engine = { config, broker, status, metrics, logger: silentLogger, clock: host.clock, owner: host.name };
  const { signal } = host;
  const failed = new AbortController();
  const until = AbortSignal.any([signal, failed.signal]);
  const loops = new Loops(until, () => failed.abort());
  await again(host, async () => {
    const { epoch } = await source.open(until);
    loops.add(...(await publisherRole(engine, source, epoch, until)));
  });
  await again(host, () => target.open(until));
  if (until.aborted) return await loops.ended();
  loops.add(consumerRole(engine, target, until));
  await loops.ended();
}

/** Waits for the database for ever, as src/run.ts does. */
async function again(host: Host, step: () => Promise<void>): Promise<void> {
  while (!host.signal.aborted) {
    try {
      return await step();
    } catch (error) {
      if (isAbort(error)) return;
      await host.clock.sleep(200, host.signal);
    }
  }
}

function configOf(settings: EngineSettings): Config {
  const { contour, from, frameBytes, sendBatch, applyBatch, pollIntervalMs, partitions } = settings;
  return {
    ...defaults,
    non_critical_tables: [],
    roles: ["publisher", "consumer"],
    // The kind decides how many partitions a topic has.
    broker: "kafka",
    kafka: { ...defaults.kafka, topic: { ...defaults.kafka.topic, partitions } },
    service: { ...defaults.service, contour },
    publisher: { poll_interval: pollIntervalMs, batch_size: sendBatch, frame_size: frameBytes },
    consumer: { ...defaults.consumer, group: contour, batch_size: applyBatch, from: [...from] },
  };
}
