/** Ours: a publisher process, a consumer process, and a broker between them. */
import type { Replicator } from "../../tests/e2e/harness.ts";
import { type BrokerKind, openPair } from "../../tests/e2e/pair.ts";
import { endPidWithUs } from "../children.ts";
import { idSource } from "../ids.ts";
import { holdTransaction } from "../old_transaction.ts";
import { broker, startServer, watchServer } from "../servers.ts";
import { DDL, TABLES } from "../tables.ts";
import type { Pair } from "../types.ts";
import { resetPeak, usageOf } from "../usage.ts";

export interface ReplicatorOptions {
  readonly broker: BrokerKind;
  readonly capture: "auto" | "row" | "statement";
  /** default: frames of whole transactions; events: every table has a topic of its own, one message a row. */
  readonly channel: "default" | "events";
}

export async function openReplicator(options: ReplicatorOptions): Promise<Pair> {
  const { config, watched } = await broker(options.broker);
  const [a, b] = [await startServer(), await startServer()];
  const tables = TABLES.map((name) => ({
    name,
    capture: options.capture,
    ...(options.channel === "events" ? { topic: name } : {}),
  }));
  const urls = [await a.createDatabase(), await b.createDatabase()] as const;
  const pair = await openPair({ broker: config, ddl: DDL, tables, urls });
  let running: { readonly publisher: Replicator; readonly consumer: Replicator } | undefined;
  const start = async () => {
    // Both at once: the consumer is not ready later for having waited for the publisher.
    const [publisher, consumer] = await Promise.all([pair.a.start("publisher"), pair.b.start("consumer")]);
    for (const one of [publisher, consumer]) endPidWithUs(one.pid, one.exited());
    running = { publisher, consumer };
  };
  const stop = async () => {
    await Promise.all([running?.publisher.stop(), running?.consumer.stop()]);
    running = undefined;
  };
  await start();
  return {
    source: pair.a.sql,
    target: pair.b.sql,
    sourceUrl: urls[0],
    freshIds: idSource(),
    usage: () =>
      usageOf({
        "source PostgreSQL": watchServer(a),
        "target PostgreSQL": watchServer(b),
        [options.broker]: watched,
        ...(running && {
          publisher: { pid: running.publisher.pid, tree: false },
          consumer: { pid: running.consumer.pid, tree: false },
        }),
      }),
    resetPeaks: () => {
      for (const one of running ? [running.publisher, running.consumer] : []) resetPeak(one.pid);
    },
    stopReplication: stop,
    startReplication: start,
    holdTransaction: () => holdTransaction(urls[0]),
    close: async () => {
      await pair.close();
      await Promise.all([b.close(), a.close()]);
    },
  };
}
