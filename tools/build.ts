/** `make build`: one self-contained program, dist/replicator. */
import { join } from "node:path";
import { ROOT, run, say } from "./cache.mjs";

/**
 * Compiles the program with this very Bun.
 * @param outfile path of the program to write
 * @param cross Bun's name of another target, and the runtime the program begins with
 */
export function compile(outfile: string, cross?: { readonly target: string; readonly runtime: string }): void {
  run(
    process.execPath,
    [
      "build",
      "--compile",
      "--minify",
      "--bytecode",
      // Otherwise the program takes code and settings from the directory it happens to be started in.
      "--no-compile-autoload-dotenv",
      "--no-compile-autoload-bunfig",
      ...(cross ? [`--target=bun-${cross.target}`, `--compile-executable-path=${cross.runtime}`] : []),
      join(ROOT, "src", "main.ts"),
      `--outfile=${outfile}`,
    ],
    { cwd: ROOT },
  );
}

if (import.meta.main) {
  const outfile = join(ROOT, "dist", "replicator");
  compile(outfile);
  say(`built ${outfile} (${Math.round(Bun.file(outfile).size / 1e6)} MB)`);
}
