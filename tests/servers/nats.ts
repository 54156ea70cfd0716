/** Real nats-servers with JetStream. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { natsServer } from "../../tools/cache.mjs";
import { freePort, scratch } from "./scratch.ts";
import { type TestServer, testServer } from "./server.ts";

export interface NatsOptions {
  readonly name?: string;
  /** The one user that may connect. */
  readonly user?: string;
  readonly password?: string;
  /** More lines of its configuration: accounts, authorization, cluster, leafnodes … */
  readonly config?: string;
  /** Inside the jetstream block, such as `domain: hub`. */
  readonly jetstream?: string;
  /** PEM texts. Every client must use TLS; `verify` asks for the client's certificate too. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string; readonly verify?: boolean };
}

export interface NatsServer extends TestServer {
  readonly port: number;
  readonly url: string;
}

/** A started server of its own. It ends with this process if nobody stops it. */
export async function startNats(options: NatsOptions = {}): Promise<NatsServer> {
  const program: string = natsServer();
  if (!existsSync(program)) throw new Error("nats-server is not in .cache: node tools/bootstrap.mjs nats");
  const folder = scratch("nats");
  const port = await freePort();
  const configFile = join(folder, "server.conf");
  const lines = [
    `server_name: ${options.name ?? `test-${port}`}`,
    `listen: 127.0.0.1:${port}`,
    `jetstream { store_dir: ${quoted(join(folder, "data"))}, ${options.jetstream ?? ""} }`,
    ...(options.user
      ? [`authorization { user: ${quoted(options.user)}, password: ${quoted(options.password ?? "")} }`]
      : []),
    ...(options.tls ? [tls(folder, options.tls)] : []),
    options.config ?? "",
  ];
  writeFileSync(configFile, `${lines.join("\n")}\n`);
  const server: NatsServer = {
    ...testServer({
      name: "nats-server",
      program,
      args: ["-c", configFile],
      cwd: folder,
      folder,
      ready: /Server is ready/,
    }),
    port,
    url: `nats://${options.tls ? "localhost" : "127.0.0.1"}:${port}`,
  };
  await server.start();
  return server;
}

/** A string of its configuration; JSON's escapes are understood. */
const quoted = (text: string): string => JSON.stringify(text);

function tls(folder: string, { ca, cert, key, verify = false }: NonNullable<NatsOptions["tls"]>): string {
  const path = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return quoted(join(folder, name));
  };
  const files = `ca_file: ${path("ca.pem", ca)}, cert_file: ${path("cert.pem", cert)}, key_file: ${path("key.pem", key)}`;
  return `tls { ${files}, verify: ${verify}, timeout: 5 }`;
}

let shared: Promise<NatsServer> | undefined;

/** One server for all tests of this process. Do not stop it; take a server of your own for that. */
export function sharedNats(): Promise<NatsServer> {
  shared ??= startNats();
  return shared;
}
