import { expect, test } from "bun:test";
import fc from "fast-check";
import { jsonMembers } from "../../../adapters/postgres/target/rows/json_members.ts";

test("JSON members are found where JSON.parse finds them, for every object and spacing", () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue()),
      fc.constantFrom(undefined, 1, "\t"),
      (object, space) => {
        const text = JSON.stringify(object, null, space);
        const members = jsonMembers(text);
        // Names only JSON.parse treats specially are left out by fast-check's dictionary as well.
        expect([...members.keys()].sort()).toEqual(Object.keys(object).sort());
        for (const [name, { start, end }] of members) {
          expect(JSON.stringify(JSON.parse(text.slice(start, end)))).toBe(JSON.stringify(Reflect.get(object, name)));
        }
      },
    ),
    { numRuns: 5_000 },
  );
});

test("JSON members of the first of several objects end with it", () => {
  const text = '{"id":1,"a \\"b\\\\":"}{,","n":-1.5e3,"x":[{"y":"]"}]},\n{"id":2,"other":3}';
  const members = jsonMembers(text);
  expect([...members.keys()]).toEqual(["id", 'a "b\\', "n", "x"]);
  expect([...members.values()].map(({ start, end }) => text.slice(start, end))).toEqual([
    "1",
    '"}{,"',
    "-1.5e3",
    '[{"y":"]"}]',
  ]);
});

for (const text of [
  "",
  "[]",
  '"x"',
  "{",
  '{"a"',
  '{"a":',
  '{"a":1',
  '{"a":"',
  '{"a":[1',
  '{"a" 1}',
  '{"a":1 "b":2}',
  "{a:1}",
  '{"a":}',
]) {
  test(`JSON members of ${JSON.stringify(text)} are refused`, () => {
    expect(() => jsonMembers(text)).toThrow(SyntaxError);
  });
}
