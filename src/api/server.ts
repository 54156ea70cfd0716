/** Serves the app on Bun.serve or Deno.serve, whichever runtime runs us. */
import { ReplicatorError } from "../core/errors.ts";
import type { Logger } from "../core/logger.ts";
import type { StatusSource } from "../core/status.ts";
import { createApp } from "./app.ts";
import type { SyncControl } from "./sync_route.ts";

export interface ApiOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly token?: string | undefined;
  readonly source: StatusSource;
  readonly sync?: SyncControl | undefined;
  readonly logger: Logger;
}

export interface ApiServer {
  /** The port listened on. */
  readonly port: number;
  readonly url: string;
  /** Ends open connections too. Safe to call twice. */
  close(): Promise<void>;
}

type Handler = (request: Request) => Response | Promise<Response>;

interface Listening {
  readonly port: number;
  close(): Promise<void>;
}

/** What we use of Deno; its types are not ours to depend on. */
interface DenoServe {
  serve(
    options: { hostname: string; port: number; onListen: () => void },
    handler: Handler,
  ): { readonly addr: { readonly port: number }; shutdown(): Promise<void> };
}

const IDLE_SECONDS = 10;

/** @throws ReplicatorError `api.cannot_listen` */
export async function startApi(options: ApiOptions): Promise<ApiServer> {
  const { host, port, logger } = options;
  const app = createApp(options);
  const handler: Handler = (request) => app.fetch(request);
  let listening: Listening;
  try {
    listening = serve(host, port, handler);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ReplicatorError({
      code: "api.cannot_listen",
      message: `Cannot listen on ${host}:${port} for the API: ${reason}`,
      retry: "never",
      fault: "environment",
      remedy: "Choose another port (API_PORT, --api-port; 0 takes a free one) or end the process that has it",
      cause,
    });
  }
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${listening.port}`;
  logger.info({ url }, "API listening");
  let closing: Promise<void> | null = null;
  return {
    port: listening.port,
    url,
    close: () => {
      closing ??= listening.close();
      return closing;
    },
  };
}

function serve(hostname: string, port: number, handler: Handler): Listening {
  const deno: unknown = Reflect.get(globalThis, "Deno");
  if (isDeno(deno)) {
    const server = deno.serve({ hostname, port, onListen: () => undefined }, handler);
    return { port: server.addr.port, close: () => server.shutdown() };
  }
  const server = Bun.serve({
    hostname,
    port,
    fetch: handler,
    idleTimeout: IDLE_SECONDS,
    maxRequestBodySize: 64 * 1024,
  });
  return { port: server.port ?? port, close: () => server.stop(true) };
}

function isDeno(value: unknown): value is DenoServe {
  return typeof value === "object" && value !== null && typeof Reflect.get(value, "serve") === "function";
}
