/** `replicator parked list`. */
import type { Command } from "commander";
import { type Context, define } from "../context.ts";
import { withAdmin } from "../session.ts";
import { drawTable } from "../table.ts";

const MOST = 1_000;

export function parkedCommand(program: Command, context: Context): void {
  const parked = program.command("parked").description("Changes that could not be applied yet");
  const list = parked
    .command("list")
    .description("Parked changes with their errors; each is tried again at its next attempt")
    .option("--table <table>", "Only those of one table")
    .option("--json", "One JSON array");
  define(list, async () =>
    withAdmin({ ...context, command: list, needs: { database: true } }, async ({ signal, terminal }, admin) => {
      const { table, json } = list.opts();
      const changes = await admin.parked(typeof table === "string" ? table : null, MOST, signal);
      if (json === true) {
        terminal.out(JSON.stringify(changes, null, 2));
        return 0;
      }
      const rows = changes.map((one) => [
        String(one.id),
        one.source_contour,
        one.table,
        one.operation,
        one.record_id ?? "",
        one.status,
        String(one.attempts),
        one.next_attempt_at,
        `${one.error_code} ${one.error}`,
      ]);
      terminal.out(
        drawTable(["id", "from", "table", "operation", "record", "status", "attempts", "next attempt", "error"], rows),
      );
      if (changes.length === 0) terminal.say("Nothing is parked");
      if (changes.length === MOST) terminal.say(`Only the first ${MOST} are shown`);
      return 0;
    }),
  );
}
