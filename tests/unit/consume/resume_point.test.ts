import { expect, test } from "bun:test";
import { ResumePoint } from "../../../src/consume/resume_point.ts";

const at = (offset: number) => ({ next: { identity: "log", offset: String(offset) } });

test("without anything kept the position is the one after the delivery", () => {
  expect(new ResumePoint().after(at(3), true)).toEqual(at(3).next);
});

test("I5: the position stays before the oldest message that came before its turn, until all of them have passed", () => {
  const resume = new ResumePoint();
  resume.keep(at(1).next, at(2));
  resume.keep(at(2).next, at(3));
  expect(resume.after(at(4), false)).toEqual(at(1).next);
  expect(resume.after(at(4), false)).toEqual(at(1).next);
  expect(resume.after(at(4), true)).toEqual(at(4).next);
  expect(resume.after(at(5), true)).toEqual(at(5).next);
});

test("a read that began at the earliest message, whose first came before its turn, begins there again", () => {
  const resume = new ResumePoint();
  resume.keep(null, at(8));
  expect(resume.after(at(9), false)).toEqual({ identity: "log", offset: "0" });
});
