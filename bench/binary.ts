/** The program as it is shipped, compiled from this tree when the run first needs it. */
import { join } from "node:path";
import { scratch } from "../tests/servers/scratch.ts";
import { compile } from "../tools/build.ts";

let path: string | undefined;

/** Path of the compiled program; it goes when the bench ends. */
export function compiledProgram(): string {
  if (path === undefined) {
    const outfile = join(scratch("bench-program"), "replicator");
    compile(outfile);
    path = outfile;
  }
  return path;
}
