import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { createApp } from "../../../src/api/app.ts";
import { createDashboard } from "../../../src/api/dashboard.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import { report } from "./support.ts";

function app(token?: string) {
  const source = {
    status: async () => report,
    ready: async () => ({ ready: true, reasons: [], suspended: [] }),
    metrics: async () => "",
  };
  return createApp({ source, token, logger: silentLogger });
}

describe("the dashboard", () => {
  test("GET / is one page without outside resources, under a policy that names its own script and style", async () => {
    const response = await app().request("/");
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
    const html = await response.text();
    expect(html).toStartWith("<!doctype html>");
    expect(html).not.toMatch(/(src|href)="(?!data:,")|https?:|@import|url\(|@font-face/);
    // What a policy with hashes does not let run: attributes with script or style in them.
    expect(html).not.toMatch(/ on\w+="| style="|javascript:/);
    expect(html).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(/);
    const policy = response.headers.get("content-security-policy") ?? "";
    expect(policy).not.toContain("unsafe");
    for (const element of ["script", "style"]) {
      const parts = [...html.matchAll(new RegExp(`<${element}[^>]*>([\\s\\S]*?)</${element}>`, "g"))];
      expect(parts.length).toBe(1);
      const hash = createHash("sha256")
        .update(parts[0]?.[1] ?? "")
        .digest("base64");
      expect(policy).toContain(`${element}-src 'sha256-${hash}'`);
    }
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(response.headers.get("cache-control")).toBe("no-store");
  });

  test("with a token set GET / is 401 without it, and what comes with the 401 tells nothing", async () => {
    const guarded = app("topsecret");
    for (const given of [undefined, "Bearer wrong", "Basic topsecret"]) {
      const response = await guarded.request("/", { headers: given === undefined ? {} : { Authorization: given } });
      expect(response.status).toBe(401);
      expect(response.headers.get("www-authenticate")).toStartWith("Bearer");
      const html = await response.text();
      // The same page for everybody: nothing of this process is in it.
      expect(html).toBe(createDashboard().html);
      for (const secret of ["topsecret", report.contour, report.version]) expect(html).not.toContain(`>${secret}<`);
    }
    const given = await guarded.request("/", { headers: { Authorization: "Bearer topsecret" } });
    expect(given.status).toBe(200);
  });
});
