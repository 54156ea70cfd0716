import { describe, expect, test } from "bun:test";
import type { Admin, ConflictDetail, ConflictLine } from "../../../src/core/admin.ts";
import { cli, fakeAdmin } from "./support.ts";

const ENV = { SERVICE_CONTOUR: "active", DATABASE_URL: "postgres://u@db/app" };

const line: ConflictLine = {
  id: 17,
  occurred_at: "2026-11-21T10:00:00.123Z",
  source_contour: "passive",
  table: "users",
  record_id: "42",
  policy: "version",
  winner: "local",
  reason: "later updated_at",
  override: null,
  torn: true,
  transaction_id: "7345",
  event_id: "e0a13381-f8b2-e1a1-15f9-55724ff6001a",
};
const detail: ConflictDetail = {
  ...line,
  columns: [
    { column: "id", local: "42", incoming: "42", differs: false },
    { column: "score", local: "0.30000000000000004", incoming: "12345678901234567890", differs: true },
    { column: "note", local: null, incoming: "NULL", differs: true },
    { column: "nick", incoming: "", differs: true },
  ],
  local_row: '{"id":42,"score":0.30000000000000004,"note":null}',
  incoming_row: '{"id":42,"score":12345678901234567890,"note":"NULL","nick":""}',
};

const run = (args: string[], parts: Partial<Admin>) =>
  cli(["conflicts", ...args], { openAdmin: () => fakeAdmin(parts) }, ENV);

describe("conflicts list", () => {
  test("shows who won, why, and what is torn; --table, --since and --limit choose", async () => {
    const asked: unknown[] = [];
    const removed: ConflictLine = { ...line, id: 16, override: "removed", torn: false, reason: "unique value" };
    const parts: Partial<Admin> = {
      conflicts: async (filter, limit) => {
        asked.push([filter, limit]);
        return [line, removed];
      },
    };
    const { code, out } = await run(["list", "--table", "users", "--since", "1h", "--limit", "2"], parts);
    expect(code).toBe(0);
    expect(asked).toEqual([[{ table: "users", sinceMs: 3_600_000 }, 2]]);
    expect(out).toMatchSnapshot();
    await run(["list"], parts);
    expect(asked[1]).toEqual([{ table: null, sinceMs: null }, 50]);
  });

  test("--json prints one array; nothing is said to be there when nothing is", async () => {
    const { out } = await run(["list", "--json"], { conflicts: async () => [line] });
    expect(JSON.parse(out)).toEqual([line]);
    const empty = await run(["list"], { conflicts: async () => [] });
    expect(empty.said).toContain("There are no conflicts");
  });

  test("says that there may be more when the limit is reached", async () => {
    const { said } = await run(["list", "--limit", "1"], { conflicts: async () => [line] });
    expect(said).toContain("Only the newest 1");
  });

  for (const [args, code] of [
    [["list", "--since", "yesterday"], "--since"],
    [["list", "--limit", "0"], "--limit"],
    [["list", "--limit", "many"], "--limit"],
    [["show", "x"], "no id of a conflict"],
  ] as const) {
    test(`refuses ${args.join(" ")}`, async () => {
      const refused = await run([...args], {});
      expect(refused.code).toBe(2);
      expect(refused.said).toContain(code);
    });
  }
});

describe("conflicts show", () => {
  test("draws both images side by side and marks what differs", async () => {
    const { code, out } = await run(["show", "17"], { conflictDetail: async () => detail });
    expect(code).toBe(0);
    expect(out).toMatchSnapshot();
  });

  test("--json prints one object, values as text", async () => {
    const { out } = await run(["show", "17", "--json"], { conflictDetail: async () => detail });
    expect(JSON.parse(out)).toEqual(detail);
    expect(out).toContain('"12345678901234567890"');
  });
});
