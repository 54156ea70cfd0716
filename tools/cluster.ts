/**
 * `bun run cluster nats | kafka`: a broker cluster on this machine, without Docker, until Ctrl+C. NATS: two clusters of
 * three servers joined by gateways; Kafka: three nodes. The configuration is that of compose/.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { natsServer } from "./cache.mjs";
import { type KafkaPorts, kafkaNodes, kafkaPorts } from "./cluster/kafka_nodes.ts";
import { NATS_ADMIN, NATS_USER, type NatsNode, natsNodes, natsPorts, natsServers } from "./cluster/nats_nodes.ts";
import { type Server, Supervisor } from "./cluster/supervisor.ts";
import { fetchKafka } from "./fetch_kafka.mjs";
import { fetchNats } from "./fetch_nats.mjs";

const USAGE = `Usage: bun run cluster nats|kafka [options]

Starts a broker cluster on this machine and prints how a replicator reaches it; Ctrl+C stops it.
  nats   two clusters of three servers, joined by gateways
         clients 4222-4227, monitoring 8222-8227, routes 6222-6227, gateways 7222-7227
  kafka  three nodes, each broker and controller; three copies, two confirm
         clients 9092-9094, controllers 9192-9194

Options:
  --port-base N      count the ports from N on instead: nats N to N+35, kafka N to N+12
  --data DIR         keep the data in DIR and go on with what is there (default: a folder that goes at the end)
  --password TEXT    password of the NATS users (default: that of the demonstration, password123)
  --help             this text
`;
const DEMONSTRATION_PASSWORD = "password123";
const PREFIX = "replicator-cluster-";
const LEADER_TIMEOUT_MS = 60_000;

/** What is wrong with the call (2) or with the machine (3); its message is all that is printed. */
class Refusal extends Error {
  constructor(
    readonly code: 2 | 3,
    message: string,
  ) {
    super(message);
  }
}

interface Options {
  readonly portBase: number | undefined;
  readonly data: string | undefined;
  readonly password: string;
}

interface Cluster {
  readonly what: string;
  /** What listens on each port. */
  readonly ports: ReadonlyMap<number, string>;
  servers(folder: string): Server[];
  /** Resolves when the servers have found each other, or the signal aborts. */
  joined(signal: AbortSignal): Promise<void>;
  /** What a person needs to know. */
  readonly text: string;
}

const say = (text: string) => process.stdout.write(`${text}\n`);

async function main(args: readonly string[]): Promise<number> {
  const { kind, options } = parse(args);
  if (kind === null) {
    say(USAGE);
    return 0;
  }
  const missing: string | undefined = kind === "nats" ? fetchNats() : fetchKafka();
  if (missing) throw new Refusal(3, missing);
  const cluster = kind === "nats" ? natsCluster(options) : kafkaCluster(options);
  await refuseTakenPorts(cluster.ports);
  const folder = options.data ?? temporaryFolder();
  mkdirSync(folder, { recursive: true });
  const supervisor = new Supervisor(join(folder, "logs"), say);
  const stop = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    stop.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => stop.abort());
  const cleanUp = () => {
    if (options.data === undefined) rmSync(folder, { recursive: true, force: true });
  };
  process.once("exit", () => {
    supervisor.kill();
    cleanUp();
  });
  try {
    say(`Starting ${cluster.what}; data in ${folder}`);
    const starting = supervisor.start(cluster.servers(folder)).then(() => cluster.joined(stop.signal));
    starting.catch(() => undefined); // one that fails after Ctrl+C
    await Promise.race([starting, stopped]);
    if (!stop.signal.aborted) {
      say(cluster.text);
      say("Ready. Ctrl+C stops all.");
    }
    await stopped;
    return 0;
  } finally {
    stop.abort();
    say("Stopping");
    await supervisor.stop();
    cleanUp();
  }
}

function parse(args: readonly string[]): { kind: "nats" | "kafka" | null; options: Options } {
  let parsed: ReturnType<typeof read>;
  try {
    parsed = read(args);
  } catch (error) {
    throw new Refusal(2, `${error instanceof Error ? error.message : error}\n\n${USAGE}`);
  }
  const { values, positionals } = parsed;
  const base = values["port-base"];
  const portBase = base === undefined ? undefined : Number(base);
  if (portBase !== undefined && !(Number.isInteger(portBase) && portBase >= 1_024 && portBase <= 65_500))
    throw new Refusal(2, `Expected a number from 1024 to 65500 for --port-base, found "${base}"`);
  const [kind, ...more] = positionals;
  const data = values.data === undefined ? undefined : resolve(values.data);
  const options = { portBase, data, password: values.password ?? DEMONSTRATION_PASSWORD };
  if (values.help) return { kind: null, options };
  if ((kind !== "nats" && kind !== "kafka") || more.length > 0)
    throw new Refusal(2, `Expected nats or kafka, found "${positionals.join(" ")}"\n\n${USAGE}`);
  return { kind, options };
}

function read(args: readonly string[]) {
  const text = { type: "string" } as const;
  const options = { "port-base": text, data: text, password: text, help: { type: "boolean", short: "h" } } as const;
  return parseArgs({ args: [...args], allowPositionals: true, options });
}

function natsCluster({ portBase, password }: Options): Cluster {
  const ports = natsPorts(portBase);
  const describe = (data: string) => natsNodes({ ports, data, password, adminPassword: password });
  const nodes = describe("");
  const used = nodes.flatMap((node) =>
    Object.entries(node.ports).map(([kind, port]): [number, string] => [port, `${node.name} (${kind})`]),
  );
  const contour = (name: string, other: string, cluster: "A" | "B") => `# contour ${name}, beside cluster ${cluster}
service: { contour: ${name} }
broker: nats
nats:
  servers: [${natsServers(nodes, cluster).join(", ")}]
  user: ${NATS_USER}
  password: ${JSON.stringify(password)}
  replicas: 3
consumer: { from: [${other}] }`;
  const table = nodes.map(
    ({ name, ports }) => `  ${name}  nats://127.0.0.1:${ports.client}  http://127.0.0.1:${ports.monitor}`,
  );
  return {
    what: "two NATS clusters of three servers",
    ports: new Map(used),
    servers: (folder) =>
      describe(folder).map(({ name, config, environment }) => ({
        name,
        program: natsServer(),
        args: ["-c", config],
        environment,
        ready: /Server is ready/,
      })),
    joined: (signal) => untilHealthy(nodes, signal),
    text: `
Servers, their clients' and their monitoring addresses:
${table.join("\n")}
Users, all with the password ${JSON.stringify(password)}: ${NATS_USER} (account CLIENT, with JetStream), ${NATS_ADMIN} (system account)

${contour("a", "b", "A")}

${contour("b", "a", "B")}

To look inside:
  curl http://127.0.0.1:${ports[0]?.monitor}/connz     # clients; cluster B: port ${ports[3]?.monitor}
  curl http://127.0.0.1:${ports[0]?.monitor}/gatewayz  # the gateways
  curl http://127.0.0.1:${ports[0]?.monitor}/jsz       # JetStream
`,
  };
}

/** JetStream has its first leader when all servers have found each other, across the gateways too. */
async function untilHealthy(nodes: readonly NatsNode[], stop: AbortSignal): Promise<void> {
  const deadline = performance.now() + LEADER_TIMEOUT_MS;
  for (const { name, ports } of nodes) {
    const healthy = async () => {
      try {
        return (await fetch(`http://127.0.0.1:${ports.monitor}/healthz`, { signal: AbortSignal.timeout(2_000) })).ok;
      } catch {
        return false; // not there yet
      }
    };
    while (!stop.aborted && !(await healthy())) {
      if (performance.now() > deadline) throw new Refusal(3, `JetStream of ${name} did not become healthy`);
      await sleep(100);
    }
  }
}

function kafkaCluster({ portBase }: Options): Cluster {
  const ports: KafkaPorts[] = kafkaPorts(portBase);
  const brokers = ports.map(({ client }) => `127.0.0.1:${client}`);
  return {
    what: "three Kafka nodes",
    ports: new Map(
      ports.flatMap(({ client, controller }, index): [number, string][] => [
        [client, `kafka-${index + 1} (client)`],
        [controller, `kafka-${index + 1} (controller)`],
      ]),
    ),
    servers: (folder) => kafkaNodes({ ports, data: folder }).map((node) => ({ ...node })),
    // A node says that it has started when the controllers let it in.
    joined: () => Promise.resolve(),
    text: `
Nodes: ${brokers.join(", ")}; no users, no encryption

# both contours; service.contour and consumer.from differ
broker: kafka
kafka: { brokers: [${brokers.join(", ")}] }   # topics get three copies, two confirm
`,
  };
}

async function refuseTakenPorts(ports: ReadonlyMap<number, string>): Promise<void> {
  const taken: string[] = [];
  for (const [port, owner] of ports) if (!(await canListen(port))) taken.push(`${port}, wanted by ${owner}`);
  if (taken.length === 0) return;
  throw new Refusal(
    3,
    `Something listens already on port ${taken.join("; ")}. End it, or choose other ports: --port-base 21000`,
  );
}

function canListen(port: number): Promise<boolean> {
  return new Promise((done) => {
    const probe = createServer();
    probe.once("error", () => done(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => done(true)));
  });
}

/** Named after us, so that the next start removes what one that was killed has left. */
function temporaryFolder(): string {
  for (const name of readdirSync(tmpdir())) {
    const pid = Number(name.startsWith(PREFIX) ? name.slice(PREFIX.length).split("-")[0] : Number.NaN);
    if (Number.isInteger(pid) && !isRunning(pid)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
  return mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`));
}

function isRunning(pid: number): boolean {
  if (existsSync("/proc/self")) return existsSync(`/proc/${pid}`);
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exitCode = error instanceof Refusal ? error.code : 3;
}
