/** The dashboard in a browser: what it shows, that nothing of it runs or loads, light, dark, narrow, and when things fail. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { type ApiServer, startApi } from "../../src/api/server.ts";
import { silentLogger } from "../../src/core/logger.ts";
import type { Readiness, StatusReport } from "../../src/core/status.ts";
import { which } from "../../tools/cache.mjs";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { report } from "../unit/api/support.ts";

setDefaultTimeout(120_000);
const HOSTILE = `<script>document.title="owned"</script><img src=x onerror="document.title='owned'">`;
const CALM: StatusReport = { ...report, parked: 0, dead: 0, suspended: [], suspended_since: null };
const READY: Readiness = { ready: true, reasons: [], suspended: [] };
/** Evaluated in the page. */
const LEAST_CONTRAST = readFileSync(join(import.meta.dir, "dashboard_contrast.js"), "utf8");
const INSERT_MARKUP = `try { document.body.innerHTML = "<b>x</b>"; "inserted"; } catch (error) { String(error); }`;
/** Set to a folder, the test leaves its screenshots there. */
const SHOTS = process.env.DASHBOARD_SHOTS;

describeWith("chromium", "the dashboard in a browser", () => {
  let browser: Browser;
  const servers: ApiServer[] = [];
  const pages: { readonly page: Page; readonly complaints: string[] }[] = [];
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: which("chromium") ?? "", args: ["--no-sandbox"] });
  });
  afterEach(async () => {
    const complaints = pages.flatMap((one) => one.complaints);
    for (const { page } of pages.splice(0)) await page.context().close();
    await Promise.all(servers.splice(0).map((server) => server.close()));
    // What the policy refuses, a script that fails and a resource that is missing all say so here.
    expect(complaints).toEqual([]);
  });
  afterAll(async () => {
    await browser?.close();
  });

  interface Served {
    status: StatusReport;
    ready: Readiness;
    failing: boolean;
    asked: number;
  }
  async function open(served: Served, token?: string, look: BrowserContextOptions = {}) {
    const server = await startApi({
      host: "127.0.0.1",
      port: 0,
      token,
      logger: silentLogger,
      source: {
        status: async () => {
          served.asked++;
          if (served.failing) throw new Error("broken");
          return served.status;
        },
        ready: async () => served.ready,
        metrics: async () => "",
      },
    });
    servers.push(server);
    const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...look });
    const page = await context.newPage();
    const complaints: string[] = [];
    // A refused request is what these tests ask for; the browser notes it as an error of the console.
    page.on("console", (message) => {
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource"))
        complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("request", (request) => {
      if (new URL(request.url()).origin !== server.url && !request.url().startsWith("data:"))
        complaints.push(request.url());
    });
    pages.push({ page, complaints });
    await page.goto(server.url);
    return { page, server, text: () => page.innerText("body") };
  }
  const serve = (status: StatusReport, ready = READY): Served => ({ status, ready, failing: false, asked: 0 });
  const shoot = async (page: Page, name: string) => {
    if (SHOTS) await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
  };
  const shows = (text: () => Promise<string>, ...words: string[]) =>
    until(`the page shows ${words.join(", ")}`, async () => {
      const seen = (await text()).replaceAll("\n", " ");
      return words.every((word) => seen.includes(word)) || seen;
    });

  test("it shows everything /status knows, also what a later version adds, and follows it", async () => {
    const served = serve({
      ...CALM,
      last_error: "one went wrong",
      alerts: [],
      ...{ later: [{ name: "n-1" }], extra: "e-1" },
    } as StatusReport);
    const { page, text } = await open(served);
    await shows(text, "contour active", "publisher,consumer over memory", "Replicating", "0.25 s");
    await shows(
      text,
      "active/changes",
      "users",
      "version",
      "one went wrong",
      "2026-01-01T10:00:00.000Z",
      "42",
      "n-1",
      "e-1",
    );
    await shoot(page, "light");
    served.status = {
      ...served.status,
      unpublished: 1234567,
      lag_seconds: 4000,
      lag_level: "critical",
      alerts: ["lag above 30 s"],
    };
    await shows(text, "1,234,567", "1 h 6 min", "Lag is critical", "lag above 30 s");
    expect(await page.title()).toStartWith("✖");
    served.ready = { ready: false, reasons: ["broker (nats): does not answer"], suspended: [] };
    await shows(text, "Not ready", "broker (nats): does not answer");
    const seen = served.asked;
    await until("it asks again and again", () => served.asked >= seen + 2);
    await shoot(page, "not_ready");
  });

  test("values are text: a table named <script> is shown as that and nothing of it runs", async () => {
    const served = serve({
      ...CALM,
      contour: HOSTILE,
      last_error: HOSTILE,
      alerts: [HOSTILE],
      suspended: [HOSTILE],
      tables: [{ table: HOSTILE, channel: HOSTILE, conflict: "version" }],
      channels: CALM.channels.map((channel) => ({ ...channel, trouble: HOSTILE })),
      ...{ [HOSTILE]: [{ [HOSTILE]: HOSTILE }] },
    } as StatusReport);
    const { page, text } = await open(served);
    await shows(text, HOSTILE);
    await page.waitForFunction("document.querySelectorAll('td').length > 3");
    expect(await page.locator("img").count()).toBe(0);
    expect(await page.locator("script").count()).toBe(1);
    expect(await page.title()).not.toBe("owned");
    expect(await page.locator("td", { hasText: HOSTILE }).count()).toBeGreaterThan(2);
    // And were markup ever inserted, the policy would not let it run.
    const ran = await page.evaluate<string>(INSERT_MARKUP);
    expect(ran).toContain("TrustedHTML");
    pages[0]?.complaints.splice(0);
    await shoot(page, "hostile");
  });

  test("with a token it asks for it, refuses a wrong one, keeps the right one in this tab, and tells nothing before", async () => {
    const served = serve(CALM);
    const { page, text, server } = await open(served, "the-token");
    await shows(text, "A token is required");
    expect(await text()).not.toContain("active");
    expect(served.asked).toBe(0);
    await shoot(page, "token");
    await page.fill("#token", "wrong");
    await page.click("button");
    await shows(text, "The token was refused");
    await page.fill("#token", "the-token");
    await page.press("#token", "Enter");
    await shows(text, "contour active", "active/changes");
    expect(await page.locator("#ask").isVisible()).toBe(false);
    await page.reload();
    await shows(text, "contour active");
    expect(page.url()).toBe(`${server.url}/`);
    const other = await (await browser.newContext()).newPage();
    await other.goto(server.url);
    await other.waitForSelector("#ask:not([hidden])");
    await other.context().close();
  });

  test("when the process fails or is gone it says so, keeps the last figures faint, and comes back", async () => {
    const served = serve(CALM);
    const { page, text, server } = await open(served);
    await shows(text, "Replicating");
    served.failing = true;
    await shows(text, "The process answers with 500", "What stands below is of", "active/changes");
    expect(await page.locator("#report.stale").count()).toBe(1);
    served.failing = false;
    await shows(text, "Replicating");
    expect(await page.locator("#report.stale").count()).toBe(0);
    await server.close();
    await shows(text, "The process does not answer");
    await shoot(page, "gone");
  });

  test("dark and on a phone it is readable: contrast of at least 4.5, and nothing wider than the screen", async () => {
    const busy: StatusReport = {
      ...report,
      lag_level: "warning",
      lag_seconds: 12,
      alerts: ["lag of 12 s is above 10 s"],
      channels: [
        ...CALM.channels,
        {
          ...(CALM.channels[0] as StatusReport["channels"][number]),
          channel: "passive/a_rather_long_name_of_a_channel",
          direction: "in",
          trouble: "stopped at a hole: sequence 8 is missing",
        },
      ],
    };
    for (const colorScheme of ["light", "dark"] as const) {
      for (const width of [1200, 360]) {
        const { page, text } = await open(serve(busy), undefined, { colorScheme, viewport: { width, height: 800 } });
        await shows(text, "Replicating, look at this", "passive/a_rather");
        const wide = await page.evaluate<number>(
          "document.documentElement.scrollWidth - document.documentElement.clientWidth",
        );
        expect({ colorScheme, width, wide }).toEqual({ colorScheme, width, wide: 0 });
        expect(await page.evaluate<number>(LEAST_CONTRAST)).toBeGreaterThan(4.5);
        await shoot(page, `${colorScheme}_${width}`);
      }
    }
  });
});
