/** Two contours, `a` and `b`, or more, with the same tables, joined by a real broker. */
import { sharedKafka, startKafka } from "../servers/kafka.ts";
import { sharedNats, startNats } from "../servers/nats.ts";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { type BrokerConfig, Contour, type TableConfig } from "./harness.ts";

export type BrokerKind = "kafka" | "nats";
export const BROKERS: readonly BrokerKind[] = ["kafka", "nats"];

export async function brokerConfig(kind: BrokerKind, kafkaTopic: Record<string, unknown> = {}): Promise<BrokerConfig> {
  if (kind === "kafka") {
    const kafka = await sharedKafka();
    return {
      broker: "kafka",
      kafka: { brokers: [kafka.bootstrap], topic: { replication_factor: 1, min_insync_replicas: 1, ...kafkaTopic } },
    };
  }
  const nats = await sharedNats();
  return { broker: "nats", nats: { servers: [nats.url], replicas: 1 } };
}

/** A broker for one test: it can be stopped, killed and frozen. */
export interface OwnBroker {
  readonly config: BrokerConfig;
  stop(): Promise<void>;
  start(): Promise<void>;
  kill(): Promise<void>;
  close(): Promise<void>;
  pause(): void;
  unpause(): void;
}

export async function ownBroker(kind: BrokerKind): Promise<OwnBroker> {
  if (kind === "nats") {
    const nats = await startNats();
    return { ...nats, config: { broker: "nats", nats: { servers: [nats.url], replicas: 1 } } };
  }
  const kafka = await startKafka();
  const topic = { replication_factor: 1, min_insync_replicas: 1 };
  return { ...kafka, config: { broker: "kafka", kafka: { brokers: [kafka.bootstrap], topic } } };
}

export interface PairOptions {
  readonly broker: BrokerKind | BrokerConfig;
  /** Run at both databases before setup. */
  readonly ddl: string;
  readonly tables: readonly TableConfig[];
  /** The tests' own addresses of the databases; made on the shared server when left out. */
  readonly urls?: readonly string[];
  /** The replicators' addresses, where they differ. */
  readonly configUrls?: readonly string[];
  readonly extra?: Record<string, unknown>;
  readonly kafkaTopic?: Record<string, unknown>;
}

export interface Pair {
  readonly a: Contour;
  readonly b: Contour;
  close(): Promise<void>;
}

let serial = 0;

/** Prepared and not yet started. Contours have names of their own, so that pairs can share a broker. */
export async function openPair(options: PairOptions): Promise<Pair> {
  const { contours, close } = await openMesh(2, options);
  const [a, b] = contours as [Contour, Contour];
  return { a, b, close };
}

/** Contours `a`, `b`, `c` …, each of which reads all the others; prepared and not yet started. */
export async function openMesh(
  count: number,
  options: PairOptions,
): Promise<{ readonly contours: readonly Contour[]; close(): Promise<void> }> {
  const broker =
    typeof options.broker === "string" ? await brokerConfig(options.broker, options.kafkaTopic) : options.broker;
  const id = `${process.pid.toString(36)}${Date.now().toString(36)}${serial++}`;
  const names = Array.from({ length: count }, (_, n) => `${"abcdef"[n]}-${id}`);
  const urls = options.urls ?? (await Promise.all(names.map(database)));
  const contours: Contour[] = [];
  for (const [n, name] of names.entries()) {
    const contour = new Contour({
      name,
      url: urls[n] ?? "",
      ...(options.configUrls ? { configUrl: options.configUrls[n] ?? "" } : {}),
      broker,
      from: names.filter((other) => other !== name),
      tables: options.tables.map((table) => (table.topic ? { ...table, topic: `${table.topic}_${id}` } : table)),
      ...(options.extra ? { extra: options.extra } : {}),
    });
    contours.push(contour);
    await contour.sql.unsafe(options.ddl);
    await contour.prepare();
  }
  return {
    contours,
    close: async () => {
      await Promise.all(contours.map((contour) => contour.close()));
    },
  };
}

async function database(): Promise<string> {
  return await freshDatabase(await sharedPostgres());
}
