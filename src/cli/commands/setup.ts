/** `replicator setup`. */
import type { Command } from "commander";
import { type Context, define } from "../context.ts";
import { prefix, withTwoSites } from "../sites.ts";

export function setupCommand(program: Command, context: Context): void {
  const command = program
    .command("setup")
    .description("Install or upgrade the replicator's objects in the configured database; twice does no harm");
  define(command, async () =>
    withTwoSites({ ...context, command, needs: { contour: true, database: true } }, async (session, sites) => {
      const { signal, terminal } = session;
      for (const site of sites) {
        const { database, service } = site.config;
        const { compat_schema: compatSchema, columns, schema } = database;
        const lines = await site.admin.setup({ contour: service.contour, compatSchema, columns }, signal);
        for (const line of lines) terminal.say(`${prefix(site)}${line}`);
        terminal.say(
          `${prefix(site)}Contour "${service.contour}" is set up in schema "${schema}" of ${site.admin.label}`,
        );
      }
      return 0;
    }),
  );
}
