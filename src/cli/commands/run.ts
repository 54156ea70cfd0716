/** `replicator run`, also what `replicator` alone does. */
import type { Command } from "commander";
import { exitCode, ReplicatorError } from "../../core/errors.ts";
import { type Context, define } from "../context.ts";
import { withSession } from "../session.ts";

export function runCommand(program: Command, context: Context): void {
  const command = program
    .command("run", { isDefault: true })
    .description("Run the roles of this configuration and the API until SIGINT or SIGTERM (the default command)");
  define(command, async () =>
    withSession(
      { ...context, command, needs: { contour: true, database: true, broker: true, run: true } },
      async (session) => {
        const { config, logger, signal, signals, engine, loaded } = session;
        logger.info({ file: loaded.file, roles: config.roles, broker: config.broker }, "configuration read");
        try {
          await engine.run(config, { signal, onHangup: signals.onHangup, logger });
          return 0;
        } catch (error) {
          // The log is where whoever runs a service looks: the end of it says why.
          if (!(error instanceof ReplicatorError)) throw error;
          logger.error({ code: error.code, ...error.facts, remedy: error.remedy }, error.message);
          return exitCode(error);
        }
      },
    ),
  );
}
