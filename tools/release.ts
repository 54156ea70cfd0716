/** `make release`: the program for every target, and SHA256SUMS beside them, in dist/release. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { compile } from "./build.ts";
import { CACHE, place, ROOT, say, unpackNpm } from "./cache.mjs";
import { RELEASE_TARGETS } from "./versions.mjs";

/** Path of the Bun runtime of another target, of the version that compiles. */
function runtime(packageName: string): string {
  const spec = `${packageName}@${Bun.version}`;
  const folder = join(CACHE, "bun", Bun.version, basename(packageName));
  if (!existsSync(folder)) say(`fetching the Bun runtime (npm: ${spec})`);
  place(folder, (draft: string) => unpackNpm(spec, draft));
  return join(folder, "bin", "bun");
}

const folder = join(ROOT, "dist", "release");
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const sums: string[] = [];
for (const [target, packageName] of Object.entries(RELEASE_TARGETS)) {
  const outfile = join(folder, `replicator-${target}`);
  compile(outfile, { target, runtime: runtime(packageName) });
  const sum = createHash("sha256").update(readFileSync(outfile)).digest("hex");
  sums.push(`${sum}  ${basename(outfile)}\n`);
  say(`built ${outfile}`);
}
writeFileSync(join(folder, "SHA256SUMS"), sums.join(""));
