import { expect, test } from "bun:test";
import { aheadTotals, joined } from "../../../../adapters/postgres/target/parking/ahead.ts";
import { dependsOnOrder, waitsForSchema } from "../../../../adapters/postgres/target/rows/failures.ts";

const record = (versions: string, exceptions: Record<string, string> | null, capturedAt: string | null) => ({
  chunks: JSON.stringify([{ rows: versions.split(",").length, versions }]),
  versions,
  exceptions: exceptions && JSON.stringify(exceptions),
  capturedAt,
});

test("records of one message are joined in order: the ordinals of the later one go on after the earlier one", () => {
  const ahead = record("1,NULL,3", { "1": "parked" }, "2026-01-01T00:00:00Z");
  const whole = joined(ahead, { ...record("4,5", { "0": "beaten" }, null), endsCut: true });
  expect(whole).toEqual({
    chunks: '[{"rows":3,"versions":"1,NULL,3"},{"rows":2,"versions":"4,5"}]',
    versions: "1,NULL,3,4,5",
    exceptions: '{"1":"parked","3":"beaten"}',
    capturedAt: "2026-01-01T00:00:00Z",
    endsCut: true,
  });
  const nothing = { chunks: "[]", versions: "", exceptions: null, capturedAt: null };
  expect(joined(record("1", null, null), nothing)).toMatchObject({ versions: "1", exceptions: null });
  expect(aheadTotals({ epoch: 1, sequence: 1, chunks: 2, record: whole })).toEqual({
    changes: 5,
    beaten: 1,
    overridden: 0,
    parked: 1,
  });
  expect(aheadTotals(null)).toEqual({ changes: 0, beaten: 0, overridden: 0, parked: 0 });
});

test("what only DDL mends waits for it; what a later row may mend is tried again at the end of its transaction", () => {
  const schema = [
    "42P01",
    "42703",
    "42883",
    "42501",
    "0A000",
    "3F000",
    "22001",
    "22003",
    "22P02",
    "apply.unknown_table",
  ];
  expect(schema.filter((state) => !waitsForSchema(state))).toEqual([]);
  const rows = [
    "23502",
    "23503",
    "23505",
    "23514",
    "23P01",
    "P0001",
    "22012",
    "apply.stamp_out_of_range",
    "apply.bad_row",
  ];
  expect(rows.filter(waitsForSchema)).toEqual([]);
  expect([...schema, ...rows].filter(dependsOnOrder)).toEqual(["23503", "23505", "23P01", "P0001"]);
});
