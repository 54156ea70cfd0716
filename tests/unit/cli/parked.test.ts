import { describe, expect, test } from "bun:test";
import type { Admin, ParkedChange, ParkedDetail } from "../../../src/core/admin.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import { cli, fakeAdmin } from "./support.ts";

const ENV = { SERVICE_CONTOUR: "active", DATABASE_URL: "postgres://u@db/app" };

const change: ParkedChange = {
  id: 7,
  event_id: "e",
  source_contour: "passive",
  channel: "changes",
  table: "users",
  operation: "UPDATE",
  record_id: "42",
  version: "3",
  status: "parked",
  error_code: "apply.unknown_column",
  error: "column nick of users is missing here: ALTER TABLE users ADD COLUMN nick text",
  remedy: "ALTER TABLE users ADD COLUMN nick text",
  attempts: 4,
  next_attempt_at: "2026-11-21T10:00:05Z",
  created_at: "2026-11-21T09:00:00Z",
  age_seconds: 3_900,
};
const detail: ParkedDetail = {
  ...change,
  partition: 0,
  epoch: "1",
  sequence: "9",
  cut_no: "3",
  transaction_id: "700",
  queue_id: "90",
  captured_at: "2026-11-21T08:59:00Z",
  key_columns: ["id"],
  stamp_columns: ["version", "updated_at", "updated_by"],
  facts: { column: "nick" },
  data: '{"id":42,"nick":0.30000000000000004}',
};
const unknown = (id: string) =>
  new ReplicatorError({
    code: "parked.unknown",
    message: `No parked change has the id ${id}`,
    retry: "never",
    fault: "input",
    remedy: "replicator parked list shows those there are",
  });

const run = (args: string[], parts: Partial<Admin>, answer: string | null = null) =>
  cli(["parked", ...args], { openAdmin: () => fakeAdmin(parts) }, ENV, answer);

describe("parked list", () => {
  test("shows state, attempts, next attempt, age and remedy; --table and --dead choose", async () => {
    const asked: unknown[] = [];
    const dead: ParkedChange = {
      ...change,
      id: 8,
      status: "dead",
      next_attempt_at: null,
      remedy: null,
      error: "no",
      age_seconds: 5,
    };
    const rests: ParkedChange = { ...change, id: 9, next_attempt_at: null, age_seconds: 200_000 };
    const parked: Admin["parked"] = async (filter) => {
      asked.push(filter);
      return [change, dead, rests];
    };
    const { code, out } = await run(["list", "--table", "users", "--dead"], { parked });
    expect(code).toBe(0);
    expect(asked).toEqual([{ table: "users", dead: true }]);
    expect(out.split("\n").map((line) => line.replaceAll(/ {2,}/g, " | "))).toEqual([
      "ID | FROM | TABLE | OPERATION | RECORD | STATE | ATTEMPTS | NEXT ATTEMPT | AGE | ERROR | REMEDY",
      "7 | passive | users | UPDATE | 42 | parked | 4 | 2026-11-21T10:00:05Z | 1 h | apply.unknown_column | ALTER TABLE users ADD COLUMN nick text",
      "8 | passive | users | UPDATE | 42 | dead | 4 | never | 5 s | apply.unknown_column | no",
      "9 | passive | users | UPDATE | 42 | parked | 4 | with its like | 2 d | apply.unknown_column | ALTER TABLE users ADD COLUMN nick text",
    ]);
    expect(JSON.parse((await run(["list", "--json"], { parked })).out)).toHaveLength(3);
    expect(asked.at(-1)).toEqual({ table: null, dead: false });
  });

  test("says so when there is nothing", async () => {
    expect((await run(["list"], { parked: async () => [] })).said).toBe("Nothing is parked");
    expect((await run(["list", "--dead"], { parked: async () => [] })).said).toBe("There are no dead letters");
  });
});

describe("parked show", () => {
  test("shows everything, the row as the text it is (I7)", async () => {
    const { out, code } = await run(["show", "7"], { parkedDetail: async () => detail });
    expect(code).toBe(0);
    expect(out).toContain('data             {"id":42,"nick":0.30000000000000004}');
    expect(out).toContain("remedy           ALTER TABLE users ADD COLUMN nick text");
    const json = await run(["show", "7", "--json"], { parkedDetail: async () => detail });
    expect(JSON.parse(json.out)).toEqual(detail);
  });

  test("an unknown id ends with 2 and is named, and so does what is no id", async () => {
    const parkedDetail: Admin["parkedDetail"] = (id) => Promise.reject(unknown(id));
    expect(await run(["show", "0012"], { parkedDetail })).toMatchObject({
      code: 2,
      said: expect.stringContaining("No parked change has the id 12\n  replicator parked list"),
    });
    expect(await run(["show", "x1"], {})).toMatchObject({ code: 2, said: expect.stringContaining('"x1" is no id') });
    expect((await run(["show"], {})).code).toBe(2);
  });
});

describe("parked retry", () => {
  test("marks what was chosen, waits until somebody has tried it, and says what became of it", async () => {
    const selections: unknown[] = [];
    let looks = 0;
    const parts: Partial<Admin> = {
      retryParked: async (selection) => {
        selections.push(selection);
        return ["7", "8", "9"];
      },
      parkedOutcomes: async () => [
        { id: 7, outcome: looks++ < 2 ? "due" : "resolved", error: null, remedy: null },
        { id: 8, outcome: "parked", error: "still no", remedy: null },
        { id: 9, outcome: "dead", error: "never", remedy: null },
      ],
    };
    const { out, said, code } = await run(["retry", "7", "08", "7"], parts);
    expect(code).toBe(0);
    expect(selections).toEqual([{ ids: ["7", "8"] }]);
    expect(out.split("\n")).toEqual([
      "7  applied or superseded",
      "8  still parked: still no",
      "9  still a dead letter: never",
    ]);
    expect(said).toBe("3 made due: 1 applied or superseded, 2 still parked");
    expect(JSON.parse((await run(["retry", "--all", "--json"], parts)).out)).toHaveLength(3);
    await run(["retry", "--table", "sales.orders"], parts);
    expect(selections.slice(1)).toEqual(["all", { table: "sales.orders" }]);
  });

  test("nothing chosen, or in two ways, is the user's input", async () => {
    expect(await run(["retry"], {})).toMatchObject({ code: 2, said: expect.stringContaining("nothing was named") });
    expect((await run(["retry", "7", "--all"], {})).code).toBe(2);
    expect((await run(["retry", "7", "--table", "users"], {})).code).toBe(2);
  });
});

describe("parked discard", () => {
  const discarded = { id: 7, table: "users", record_id: "42", source_contour: "passive", conflict_id: 3 };
  const parts = (gone: unknown[]): Partial<Admin> => ({
    parkedDetail: async () => detail,
    discardParked: async (ids) => {
      gone.push(ids);
      return [discarded];
    },
  });

  test("asks on a terminal: yes discards and leaves a line in the log, anything else discards nothing", async () => {
    const gone: unknown[] = [];
    const yes = await run(["discard", "7"], parts(gone), "yes");
    expect(yes.code).toBe(0);
    expect(yes.said).toContain("7  UPDATE of users 42 from passive: column nick");
    expect(yes.said).toContain("Discard it? [y/N] ");
    expect(yes.out).toBe("7  discarded; line 3 of conflict_log keeps it");
    expect(JSON.parse(yes.said.split("\n").find((line) => line.startsWith("{")) ?? "{}")).toMatchObject({
      level: "warn",
      message: "parked change discarded",
      parked: 7,
      table: "users",
      record: "42",
      conflict: 3,
    });
    for (const answer of ["", "n", "yess"]) {
      const no = await run(["discard", "7"], parts(gone), answer);
      expect([no.code, no.said.split("\n").at(-1)]).toEqual([0, "Nothing was discarded"]);
    }
    expect(gone).toEqual([["7"]]);
  });

  test("without a terminal it is refused, unless --yes", async () => {
    const gone: unknown[] = [];
    const refused = await run(["discard", "7"], parts(gone), null);
    expect(refused.code).toBe(2);
    expect(refused.said).toContain("no terminal to ask on\n  Add --yes");
    expect(gone).toEqual([]);
    const done = await run(["discard", "7", "--yes", "--json"], parts(gone), null);
    expect(JSON.parse(done.out)).toEqual([discarded]);
    expect(gone).toEqual([["7"]]);
  });

  test("an unknown id ends with 2 before anything is asked", async () => {
    const parkedDetail: Admin["parkedDetail"] = (id) => Promise.reject(unknown(id));
    const { code, said } = await run(["discard", "7", "8"], { parkedDetail }, "yes");
    expect(code).toBe(2);
    expect(said).not.toContain("Discard");
  });
});
