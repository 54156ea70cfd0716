/** GET / /status /health /ready /metrics (interface §5). Knows the process only through a StatusSource. */
import { createHash, timingSafeEqual } from "node:crypto";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { Logger } from "../core/logger.ts";
import type { StatusSource } from "../core/status.ts";
import { createDashboard } from "./dashboard.ts";
import { addSyncRoute, type SyncControl } from "./sync_route.ts";

export interface AppOptions {
  readonly source: StatusSource;
  /** Undefined: nothing is polled here. */
  readonly sync?: SyncControl | undefined;
  /** Asked for as `Authorization: Bearer …`; undefined: nobody is asked. */
  readonly token?: string | undefined;
  readonly logger: Logger;
}

/** No endpoint reads a body. */
const BODY_LIMIT = 1024;
const CHALLENGE = 'Bearer realm="replicator"';

export function createApp(options: AppOptions): Hono {
  const { source, token, logger } = options;
  const dashboard = createDashboard();
  const app = new Hono();
  const refused = (header: string | undefined) => token !== undefined && !sameToken(header, token);
  app.use(
    bodyLimit({ maxSize: BODY_LIMIT, onError: (context) => context.json({ error: "no endpoint reads a body" }, 413) }),
  );
  app.use(async (context, next) => {
    await next();
    context.header("Cache-Control", "no-store");
    context.header("X-Content-Type-Options", "nosniff");
  });
  for (const path of ["/status", "/metrics"]) {
    app.use(path, async (context, next) => {
      if (refused(context.req.header("Authorization"))) {
        context.header("WWW-Authenticate", CHALLENGE);
        return context.json({ error: "a bearer token is required" }, 401);
      }
      return await next();
    });
  }
  app.get("/", (context) => {
    // A browser cannot send the token with the page: what is refused gets the same page, which asks for it and knows nothing.
    const asked = refused(context.req.header("Authorization"));
    if (asked) context.header("WWW-Authenticate", CHALLENGE);
    return context.body(dashboard.html, asked ? 401 : 200, { ...dashboard.headers });
  });
  app.get("/status", async (context) => context.json(await source.status()));
  app.get("/metrics", async (context) =>
    context.text(await source.metrics(), 200, { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" }),
  );
  addSyncRoute(app, { sync: options.sync, hasToken: token !== undefined, refused });
  app.get("/health", (context) => context.json({ status: "ok" }));
  app.get("/ready", async (context) => {
    const { ready, reasons, suspended } = await source.ready();
    return context.json({ status: ready ? "ready" : "not ready", reasons, suspended }, ready ? 200 : 503);
  });
  app.notFound((context) =>
    context.json(
      { error: "not found", paths: ["/", "/status", "/health", "/ready", "/metrics", "POST /sync/{table}"] },
      404,
    ),
  );
  app.onError((error, context) => {
    logger.error({ path: context.req.path, error: error.message }, "A request failed");
    return context.json({ error: "internal error" }, 500);
  });
  return app;
}

/** In a time that does not tell how much of the token was right: digests are of equal length. */
function sameToken(header: string | undefined, token: string): boolean {
  const given = /^Bearer +(.+)$/i.exec(header ?? "")?.[1] ?? "";
  return timingSafeEqual(digest(given), digest(token));
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
