import { describe, expect, test } from "bun:test";
import type { AddOptions, Expectations } from "../../../src/core/admin.ts";
import { cli, fakeAdmin } from "./support.ts";

const ENV = { SERVICE_CONTOUR: "b", DATABASE_URL: "postgres://db/app", BROKER: "memory", CONSUMER_FROM: "c,a" };

describe("slots of sequences", () => {
  test("tables add --sequence-slot hands place and number on, with the table's other options", async () => {
    const added: AddOptions[] = [];
    const openAdmin = () =>
      fakeAdmin({
        addTable: async (_table, options) => {
          added.push(options);
          return [];
        },
      });
    expect((await cli(["tables", "add", "x", "--sequence-slot", "2/3"], { openAdmin }, ENV)).code).toBe(0);
    expect((await cli(["tables", "add", "x"], { openAdmin }, ENV)).code).toBe(0);
    expect(added).toEqual([{ sequenceSlot: { place: 2, of: 3 } }, {}]);
  });

  for (const wrong of ["0/2", "3/2", "2", "1/0", "-1/2", "1.5/2", "a/b", "1/2/3", "", "1/9999999999"]) {
    test(`tables add refuses --sequence-slot "${wrong}" before anything is changed`, async () => {
      const openAdmin = () => fakeAdmin({});
      const { code, said } = await cli(["tables", "add", "x", `--sequence-slot=${wrong}`], { openAdmin }, ENV);
      expect([code, said]).toEqual([2, expect.stringContaining(`Read --sequence-slot "${wrong}", expected`)]);
    });
  }

  test("check names all contours in one order, so that each finds the same place for each", async () => {
    const asked: Expectations[] = [];
    const openAdmin = () =>
      fakeAdmin({
        check: async (expected) => {
          asked.push(expected);
          return [];
        },
      });
    const openBroker = () => {
      throw new Error("the broker is asked at the same time");
    };
    await cli(["check"], { openAdmin, openBroker }, ENV);
    expect(asked[0]?.contours).toEqual(["a", "b", "c"]);
  });
});
