/** `replicator config show | schema`. */
import type { Command } from "commander";
import { jsonSchema } from "../../config/documents.ts";
import { showObject, showYaml } from "../../config/show.ts";
import { type Context, define } from "../context.ts";
import { withSession } from "../session.ts";

export function configCommand(program: Command, context: Context): void {
  const config = program.command("config").description("The configuration: what is in effect, and what there is");
  const show = config
    .command("show")
    .description("The effective configuration and where each value comes from, secrets hidden")
    .option("--json", "One JSON object");
  define(show, async () =>
    withSession({ ...context, command: show, needs: {}, quiet: true }, async ({ loaded, terminal, redact }) => {
      terminal.out(redact(show.opts().json === true ? JSON.stringify(showObject(loaded), null, 2) : showYaml(loaded)));
      return 0;
    }),
  );
  const schema = config.command("schema").description("The JSON Schema of a configuration file");
  define(schema, async () => {
    context.terminal.out(JSON.stringify(jsonSchema(), null, 2));
    return 0;
  });
}
