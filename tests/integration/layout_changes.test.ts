/** A table that changes its channel while changes wait: nothing is left behind, nothing is sent otherwise than before. */
import { expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import { openAdmin } from "../../adapters/postgres/admin/admin.ts";
import { createSourceStore } from "../../adapters/postgres/source/store.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";

setDefaultTimeout(60_000);
const signal = new AbortController().signal;

describeWith("postgres", "layout changes", () => {
  test("I5 I13: a topic that no table names any more is sent to its end, with the partitions its cuts were taken under", async () => {
    const url = await freshDatabase(await sharedPostgres());
    const sql = postgres(url, { max: 1, onnotice: () => undefined });
    await sql`CREATE TABLE users (id bigint PRIMARY KEY, name text)`;
    const admin = openAdmin({ url, logger: silentLogger });
    const columns = { version: "version", updated_at: "updated_at", updated_by: "updated_by" };
    await admin.setup({ contour: "a", compatSchema: "public", columns }, signal);
    await admin.addTable("users", {}, false, signal);
    const store = createSourceStore({
      database: { url, applicationName: "replicator" },
      contour: "a",
      logger: silentLogger,
    });
    try {
      await store.open(signal);
      const changes = { name: "changes", partitions: 1, tables: [] };
      await store.setLayout([changes, { name: "users_changes", partitions: 3, tables: ["users"] }]);
      const cutter = await store.lease("cutter", "", "owner", 60_000);
      const channel = await store.lease("channel", "users_changes", "owner", 60_000);
      if (!cutter || !channel) throw new Error("The leases are free");
      await sql`INSERT INTO users (id, name) VALUES (1, 'before')`;
      const before = await store.takeCut(cutter, 100_000);
      if (!before) throw new Error("A cut is due");
      await store.setLayout([changes]);
      await sql`INSERT INTO users (id, name) VALUES (2, 'after')`;
      const after = await store.takeCut(cutter, 100_000);
      if (!after) throw new Error("A cut is due");

      expect(await store.departedChannels()).toEqual([{ name: "users_changes", partitions: 3 }]);
      expect(await store.partitions(before, "users_changes")).toBe(3);
      expect(await store.partitions(after, "users_changes")).toBe(0);
      const bodies = async (cut: typeof before, name: string) => {
        const texts: string[] = [];
        for await (const rows of store.readEvents(cut, name, signal)) texts.push(...rows.map(({ body }) => body));
        return texts;
      };
      expect((await bodies(before, "users_changes")).join()).toContain("before");
      expect(await bodies(after, "users_changes")).toEqual([]);
      const chunks: string[] = [];
      for (const cut of [before, after]) {
        for await (const some of store.readChunks(cut, "changes", signal)) chunks.push(...some.map(({ data }) => data));
      }
      expect(chunks.join()).toContain("after");
      expect(chunks.join()).not.toContain("before");
      await store.confirm("users_changes", channel, after, [0, 1, 0]);
      expect(await store.departedChannels()).toEqual([]);
    } finally {
      await store.close();
      await admin.close();
      await sql.end();
    }
  });
});
