/** A contour that is set up: its database and its broker run, and the program is to be started. */
import { spawn } from "node:child_process";
import { Contour, freePort } from "../../tests/e2e/harness.ts";
import type { BrokerKind } from "../../tests/e2e/pair.ts";
import { compiledProgram } from "../binary.ts";
import { endWithUs } from "../children.ts";
import { holdTransaction } from "../old_transaction.ts";
import { broker, startServer, watchServer } from "../servers.ts";
import { DDL, TABLES } from "../tables.ts";
import type { Startable, Started } from "../types.ts";
import { usageOf } from "../usage.ts";
import { pause } from "../visible.ts";

const READY_TIMEOUT_MS = 60_000;
const ASK_EVERY_MS = 2;

export async function openStartable(kind: BrokerKind): Promise<Startable> {
  const { config } = await broker(kind);
  const program = compiledProgram();
  const server = await startServer();
  const url = await server.createDatabase();
  // The name must be its own: the broker keeps what earlier runs of this process have sent there.
  const name = `start-${process.pid.toString(36)}-${Date.now().toString(36)}`;
  const tables = TABLES.map((table) => ({ name: table }));
  // The other contour is not there; that does not keep this one from being ready.
  const contour = new Contour({ name, url, broker: config, from: [`${name}-peer`], tables });
  await contour.sql.unsafe(DDL);
  await contour.prepare();

  const start = async (): Promise<Started> => {
    const port = await freePort();
    const startedAt = performance.now();
    const child = spawn(program, ["run", "--config", contour.configFile, "--role", "all"], {
      stdio: "ignore",
      cwd: "/",
      env: { ...process.env, API_PORT: String(port) },
    });
    endWithUs(child);
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    let code: number | null | undefined;
    void ended.then((found) => {
      code = found;
    });
    while (!(await isReady(port))) {
      if (code !== undefined) throw new Error(`The program ended with ${code} before it was ready`);
      if (performance.now() - startedAt > READY_TIMEOUT_MS) throw new Error("The program did not become ready");
      await pause(ASK_EVERY_MS);
    }
    const readyMs = performance.now() - startedAt;
    return {
      readyMs,
      usage: () =>
        usageOf({
          replicator: { pid: child.pid ?? 0, tree: false },
          PostgreSQL: watchServer(server),
        }),
      stop: async () => {
        child.kill("SIGTERM");
        await ended;
      },
    };
  };
  return {
    start,
    holdTransaction: () => holdTransaction(url),
    close: async () => {
      await contour.close();
      await server.close();
    },
  };
}

async function isReady(port: number): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${port}/ready`, { signal: AbortSignal.timeout(1_000) })).status === 200;
  } catch {
    return false;
  }
}
