/** Ours with the memory broker: both contours in one process. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { openPair } from "../../tests/e2e/pair.ts";
import { endWithUs } from "../children.ts";
import { idSource } from "../ids.ts";
import { holdTransaction } from "../old_transaction.ts";
import { startServer, watchServer } from "../servers.ts";
import { DDL, TABLES } from "../tables.ts";
import type { Pair } from "../types.ts";
import { resetPeak, usageOf } from "../usage.ts";

/** Nobody connects there: the process is told to take the memory broker, and `setup` needs no broker. */
const NO_BROKER = { broker: "nats", nats: { servers: ["nats://127.0.0.1:1"] } } as const;

export async function openMemory(): Promise<Pair> {
  const [a, b] = [await startServer(), await startServer()];
  const urls = [await a.createDatabase(), await b.createDatabase()] as const;
  const pair = await openPair({ broker: NO_BROKER, ddl: DDL, tables: TABLES.map((name) => ({ name })), urls });
  let running: ChildProcess | undefined;
  const start = async () => {
    running = await startContours([pair.a.configFile, pair.b.configFile]);
  };
  const stop = async () => {
    const ending = running;
    running = undefined;
    if (ending?.exitCode !== null || ending.signalCode !== null) return;
    const ended = new Promise((resolve) => ending.once("exit", resolve));
    ending.kill("SIGTERM");
    await ended;
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
        ...(running?.pid && { "both contours": { pid: running.pid, tree: false } }),
      }),
    resetPeaks: () => {
      if (running?.pid) resetPeak(running.pid);
    },
    stopReplication: stop,
    startReplication: start,
    holdTransaction: () => holdTransaction(urls[0]),
    close: async () => {
      await stop();
      await pair.close();
      await Promise.all([b.close(), a.close()]);
    },
  };
}

async function startContours(files: readonly string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, [join(import.meta.dir, "../memory_contours.ts"), ...files], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  endWithUs(child);
  let errors = "";
  child.stderr.on("data", (data: Buffer) => {
    errors = (errors + data.toString()).slice(-4_000);
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.on("data", (data: Buffer) => {
      if (data.toString().includes("ready")) resolve();
    });
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`The memory contours ended with ${code}: ${errors}`)));
  });
  return child;
}
