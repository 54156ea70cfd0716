/**
 * POST /sync/{table}: polls a table now (docs/periodic_sync.md). With api.token it asks for the token. Without one the API
 * is on loopback, where every page in a browser of this machine can send a request: what a browser sends from another
 * site, or to a name that is not this machine's, is refused.
 */
import type { Context, Hono } from "hono";

export interface SyncControl {
  /** Tables this process polls, as SQL writes them. */
  readonly tables: readonly string[];
  /** Null when it is none of them. `queued`: a run is under way, another one follows it. */
  ask(table: string): { readonly table: string; readonly outcome: "started" | "queued" } | null;
}

export interface SyncRouteOptions {
  readonly sync: SyncControl | undefined;
  readonly hasToken: boolean;
  refused(authorization: string | undefined): boolean;
}

export function addSyncRoute(app: Hono, { sync, hasToken, refused }: SyncRouteOptions): void {
  app.post("/sync/:table", (context) => {
    if (refused(context.req.header("Authorization"))) {
      context.header("WWW-Authenticate", 'Bearer realm="replicator"');
      return context.json({ error: "a bearer token is required" }, 401);
    }
    if (!hasToken && isForeign(context)) {
      return context.json({ error: "refused from another site; set api.token and send it" }, 403);
    }
    const asked = sync?.ask(context.req.param("table"));
    if (!asked)
      return context.json({ error: "this process does not poll such a table", tables: sync?.tables ?? [] }, 404);
    return context.json({ table: asked.table, status: asked.outcome }, 202);
  });
}

/** A browser names the page it sends for in Origin; a name of somebody else's that leads here stands in Host. */
function isForeign(context: Context): boolean {
  const host = context.req.header("Host") ?? "";
  const origin = context.req.header("Origin");
  const site = context.req.header("Sec-Fetch-Site");
  const isOurs = /^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/i.test(host);
  const isSame = origin === undefined || origin === `http://${host}`;
  return !isOurs || !isSame || site === "cross-site" || site === "same-site";
}
