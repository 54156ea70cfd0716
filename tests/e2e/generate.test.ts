/** `replicator generate` as a person runs it: until Ctrl-C, with totals that are true. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { spawn } from "node:child_process";
import { join } from "node:path";
import postgres from "postgres";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { runProgram } from "./harness.ts";

setDefaultTimeout(120_000);

describeWith("postgres", "replicator generate", () => {
  test("writes as fast as it can to every table until Ctrl-C, which prints what was written", async () => {
    const url = await freshDatabase(await sharedPostgres());
    const sql = postgres(url, { max: 1, onnotice: () => undefined });
    const setUp = await runProgram(["setup", "--contour", "generated", "--database-url", url]);
    expect(setUp.code).toBe(0);
    const tables = "users,payments,orders,products,categories";
    const args = ["generate", "--database-url", url, "--tables", tables, "--rate", "max"];
    const child = spawn(process.execPath, [join(import.meta.dir, "../../src/main.ts"), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1" },
    });
    let said = "";
    child.stderr.on("data", (data) => (said += data));
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    const queued = async () => {
      const [row] = await sql`SELECT coalesce(sum(rows), 0)::int AS n FROM "replicator".queue`.catch(() => []);
      return Number(row?.n ?? 0);
    };
    await until("it writes", async () => (await queued()) > 5_000);
    child.kill("SIGINT");
    expect(await ended).toBe(0);
    const [, inserted, updated, deleted, rate] =
      /Done: (\d+) inserted, (\d+) updated, (\d+) deleted, (\d+) a second/.exec(said) ?? [];
    expect(Number(inserted) + Number(updated) + Number(deleted)).toBe(await queued());
    expect(Number(rate)).toBeGreaterThan(0);
    await sql.end();
  });

  test("a table it does not know is refused with those it does", async () => {
    const { code, stderr } = await runProgram([
      "generate",
      "--database-url",
      "postgres://u@127.0.0.1:1/x",
      "--tables",
      "users,cats",
    ]);
    expect([code, stderr]).toEqual([2, expect.stringContaining('found no "cats" among users, payments, orders')]);
  });
});
