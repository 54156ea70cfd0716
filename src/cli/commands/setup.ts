/** `replicator setup`. */
import type { Command } from "commander";
import { type Context, define } from "../context.ts";
import { withAdmin } from "../session.ts";

export function setupCommand(program: Command, context: Context): void {
  const command = program
    .command("setup")
    .description("Install or upgrade the replicator's objects in the configured database; twice does no harm");
  define(command, async () =>
    withAdmin(
      { ...context, command, needs: { contour: true, database: true } },
      async ({ config, signal, terminal }, admin) => {
        const { compat_schema: compatSchema, columns, schema } = config.database;
        const lines = await admin.setup({ contour: config.service.contour, compatSchema, columns }, signal);
        for (const line of lines) terminal.say(line);
        terminal.say(`Contour "${config.service.contour}" is set up in schema "${schema}" of ${admin.label}`);
        return 0;
      },
    ),
  );
}
