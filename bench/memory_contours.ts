/**
 * Two contours in one process with the memory broker between them, as `replicator demo` runs them: the memory broker lives
 * inside a process, so two processes cannot share it.
 *   bun bench/memory_contours.ts SOURCE.yaml TARGET.yaml
 * Prints "ready" when both run; ends at SIGTERM.
 */
import { MemoryHub } from "../adapters/memory/hub.ts";
import { loadConfig } from "../src/config/load.ts";
import { silentLogger } from "../src/core/logger.ts";
import { VERSION } from "../src/core/version.ts";
import { run } from "../src/run.ts";

const stop = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stop.abort());

const hub = new MemoryHub();
const files = process.argv.slice(2);
let started = 0;
const contours = files.map(async (file, n) => {
  const environment = { BROKER: "memory", API_PORT: "0", ROLE: n === 0 ? "publisher" : "consumer" };
  const { config } = loadConfig({ file, environment, needs: { run: true } });
  const onStarted = () => {
    if (++started === files.length) process.stdout.write("ready\n");
  };
  await run({ config, version: VERSION, logger: silentLogger, signal: stop.signal, hub, onStarted });
});
try {
  await Promise.all(contours);
} catch (error) {
  process.stderr.write(`${String(error)}\n`);
  // The other contour still runs.
  process.exit(1);
}
