import { describe } from "bun:test";
import { MAJORS, sharedPostgres } from "../../servers/postgres.ts";
import { describeWith } from "../../support/needs.ts";
import { MODES, openTarget, setUp } from "../../support/target_fixture.ts";
import { targetStoreSuite } from "./target_suite.ts";

for (const major of MAJORS) {
  describeWith(`postgres:${major}`, `Target store conformance, PostgreSQL ${major}`, () => {
    for (const mode of MODES) {
      describe(`in ${mode} mode`, () => {
        targetStoreSuite(async () => {
          const ddl = `CREATE TABLE users (id int PRIMARY KEY, name text); ${setUp("users")}`;
          const target = await openTarget(ddl, mode, { server: await sharedPostgres(major) });
          return {
            store: target.store,
            another: () => target.another(),
            users: () => target.column("SELECT id || ' ' || name || ' ' || version FROM users ORDER BY id"),
            makeDue: async () => {
              await target.db.execute("UPDATE replicator.inbox SET next_attempt_at = now()");
            },
            close: () => target.close(),
          };
        });
      });
    }
  });
}
