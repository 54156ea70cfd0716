import { expect, test } from "bun:test";
import { GroupSize } from "../../../src/consume/group_size.ts";

test("a group is as large as allowed while it is quick, smaller after a long one or one undone, and grows again", () => {
  const size = new GroupSize(1_000);
  size.took(1_000, 90);
  expect(size.messages).toBe(1_000);
  size.took(1_000, 600);
  expect(size.messages).toBe(500);
  size.took(500, 300);
  expect(size.messages).toBe(500);
  size.undone(500);
  expect(size.messages).toBe(125);
  for (let n = 0; n < 10; n++) size.undone(size.messages);
  expect(size.messages).toBe(1);
  size.took(1, 900);
  expect(size.messages).toBe(1);
  for (let n = 0; n < 12; n++) size.took(size.messages, 5);
  expect(size.messages).toBe(1_000);
});

test("a slow group that was smaller than allowed makes the next one smaller than itself", () => {
  const size = new GroupSize(1_000);
  size.took(40, 2_000);
  expect(size.messages).toBe(20);
});
