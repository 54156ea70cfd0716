import { describe, expect, test } from "bun:test";
import { Hono } from "hono";
import { addSyncRoute } from "../../../src/api/sync_route.ts";
import { SyncRequests } from "../../../src/sync/requests.ts";

function appWith(token?: string) {
  const app = new Hono();
  const sync = new SyncRequests(["products", "sales.orders"]);
  addSyncRoute(app, {
    sync,
    hasToken: token !== undefined,
    refused: (header) => token !== undefined && header !== `Bearer ${token}`,
  });
  return async (table: string, headers: Record<string, string> = {}) => {
    const all = { Host: "127.0.0.1:8080", ...headers };
    const response = await app.request(`http://127.0.0.1:8080/sync/${table}`, { method: "POST", headers: all });
    return [response.status, await response.json()] as const;
  };
}

describe("POST /sync/{table}", () => {
  test("answers 202 with the table as it is configured", async () => {
    const post = appWith();
    expect(await post("products")).toEqual([202, { table: "products", status: "started" }]);
    expect(await post("Public.Products")).toEqual([202, { table: "products", status: "started" }]);
    expect(await post("sales.orders")).toEqual([202, { table: "sales.orders", status: "started" }]);
  });

  test("a table that is not polled here: 404 with those that are", async () => {
    expect(await appWith()("users")).toEqual([
      404,
      { error: "this process does not poll such a table", tables: ["products", "sales.orders"] },
    ]);
  });

  test("asks for the token where there is one, before it tells which tables there are", async () => {
    const post = appWith("secret");
    expect((await post("users"))[0]).toBe(401);
    expect((await post("products", { Authorization: "Bearer wrong" }))[0]).toBe(401);
    expect((await post("products", { Authorization: "Bearer secret", Origin: "https://elsewhere" }))[0]).toBe(202);
  });

  test("without a token, what a browser sends for another site or name is refused", async () => {
    const post = appWith();
    expect((await post("products", { Origin: "https://elsewhere" }))[0]).toBe(403);
    expect((await post("products", { Origin: "null" }))[0]).toBe(403);
    expect((await post("products", { "Sec-Fetch-Site": "cross-site" }))[0]).toBe(403);
    expect((await post("products", { Host: "rebound.example:8080" }))[0]).toBe(403);
    expect((await post("products", { Origin: "http://127.0.0.1:8080" }))[0]).toBe(202);
  });
});
