/** What can be done to each of the real servers, whatever it is. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { type Launch, launch, type ServerProcess } from "./process.ts";

export interface TestServer {
  /** As its administrator would, with time to finish. Its data stays. Twice is no error. */
  stop(): Promise<void>;
  /** SIGKILL to it and all it has started. */
  kill(): Promise<void>;
  /** On the same data and ports; resolves when it takes connections. Nothing when it runs. */
  start(): Promise<void>;
  /** For good: at once, and its data goes. Twice is no error. */
  close(): Promise<void>;
  /** SIGSTOP: connections stay open and nothing answers. */
  pause(): void;
  unpause(): void;
  /** All it has logged. */
  log(): string;
}

export interface ServerOptions extends Omit<Launch, "logFile"> {
  /** Holds its data and its log; removed by close(). */
  readonly folder: string;
  /** What stop() sends: SIGTERM unless set. */
  readonly stopSignal?: NodeJS.Signals;
}

/** A server that is not started yet; `end` sends another signal than stop() and kill() do, and waits for the end. */
export function testServer(options: ServerOptions): TestServer & { end(signal: NodeJS.Signals): Promise<void> } {
  const { folder, stopSignal = "SIGTERM", ...launched } = options;
  const logFile = `${folder}/server.log`;
  let running: ServerProcess | undefined;
  const end = async (signal: NodeJS.Signals) => {
    await running?.end(signal);
  };
  return {
    end,
    stop: () => end(stopSignal),
    kill: () => end("SIGKILL"),
    async start() {
      if (running?.running) return;
      running = await launch({ ...launched, logFile });
    },
    async close() {
      await running?.endAtOnce();
      rmSync(folder, { recursive: true, force: true });
    },
    pause: () => running?.signalAll("SIGSTOP"),
    unpause: () => running?.signalAll("SIGCONT"),
    log: () => (existsSync(logFile) ? readFileSync(logFile, "utf8") : ""),
  };
}
