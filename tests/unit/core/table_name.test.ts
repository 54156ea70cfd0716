import { expect, test } from "bun:test";
import { parseTableName, sameTable } from "../../../src/core/table_name.ts";

test("a table's name is read as PostgreSQL reads it", () => {
  const names: [string, string, string][] = [
    ["users", "public", "users"],
    ["Users", "public", "users"],
    ["user", "public", "user"],
    ['"Users"', "public", "Users"],
    ["sales.orders", "sales", "orders"],
    ["Sales . Orders", "sales", "orders"],
    ['"My Schema"."Order"', "My Schema", "Order"],
    ['"My Table ""quoted"" таблица"', "public", 'My Table "quoted" таблица'],
    ["Таблица", "public", "Таблица"],
    ['"a.b".c$1', "a.b", "c$1"],
  ];
  for (const [text, schema, name] of names) expect(parseTableName(text)).toEqual({ schema, name });
});

test("what is no table's name is told apart", () => {
  for (const text of ["", "a b", "a.b.c", "a.", ".a", '"', '""', '"a', "1a", "a;b", "a-b"]) {
    expect([text, parseTableName(text)]).toEqual([text, null]);
  }
});

test("two spellings of one table are the same table", () => {
  expect(sameTable("users", 'public."users"')).toBe(true);
  expect(sameTable("Order", '"order"')).toBe(true);
  expect(sameTable("users", '"Users"')).toBe(false);
  expect(sameTable("sales.users", "users")).toBe(false);
});
