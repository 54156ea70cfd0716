/** The program itself, as a child: what an operator and a service manager see. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { program } from "./support.ts";

describe("the program", () => {
  test("bad configuration: 2, every problem, no stack trace", async () => {
    const folder = mkdtempSync(join(tmpdir(), "replicator-cli-"));
    try {
      const file = join(folder, "r.yaml");
      writeFileSync(file, "service: { contour: A }\nbroker: ${NOT_SET}\nkafkа: {}\nlog: { levl: info }\n");
      const { code, out, said } = await program(["run", "--config", file]);
      expect([code, out]).toEqual([2, ""]);
      expect(said).toContain(`${file}:1: service.contour: found "A"`);
      expect(said).toContain(`${file}:2: broker: the environment variable NOT_SET is not set`);
      expect(said).toContain(`${file}:3: kafkа: is an unknown key; did you mean kafka?`);
      expect(said).toContain(`${file}:4: log.levl: is an unknown key; did you mean log.level?`);
      expect(said).toContain("database.url: is missing");
      expect(said).not.toMatch(/^\s+at /m);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("unknown flag: 2 and the nearest one", async () => {
    const { code, said } = await program(["--contuor", "a"]);
    expect(code).toBe(2);
    expect(said).toContain("(Did you mean --contour?)");
  });

  test("a database that is away: 3, the address without its password, a remedy", async () => {
    const { code, said, out } = await program(["tables", "list"], {
      DATABASE_URL: "postgres://u:hunter2@127.0.0.1:1/d",
    });
    expect([code, out]).toEqual([3, ""]);
    expect(said).toContain("postgres://u@127.0.0.1:1/d");
    expect(said).not.toContain("hunter2");
  });

  test("version: 0", async () => {
    expect(await program(["version"])).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
      said: "",
    });
  });
});
