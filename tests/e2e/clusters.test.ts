/**
 * Broker clusters under load: two NATS clusters joined by gateways that lose a node each and their gateway, and three Kafka
 * nodes that are killed one after the other. Short here; the whole form: CLUSTER_SECONDS=60 RATE=1000.
 */
import { afterEach, expect, test } from "bun:test";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { Kafka, logLevel } from "kafkajs";
import { startKafkaCluster } from "../servers/kafka_cluster.ts";
import { startNatsClusters } from "../servers/nats_cluster.ts";
import { freshDatabase, sharedPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type BrokerConfig, Contour, untilEqual } from "./harness.ts";
import { type PacedLoad, startPacedLoad } from "./paced_load.ts";

/** How long the gateway is cut. */
const CUT_SECONDS = Number(process.env.CLUSTER_SECONDS ?? 10);
/** Changes a second, of both contours together. */
const RATE = Number(process.env.RATE ?? 200);
/** From the moment of healing until what is written then has arrived. */
const RECOVERY_MS = 30_000;
const DDL = "CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** Two prepared contours with every role running, each beside its broker. */
async function openContours(brokers: readonly [BrokerConfig, BrokerConfig]) {
  const id = `${process.pid.toString(36)}${Date.now().toString(36)}`;
  const names = [`a-${id}`, `b-${id}`] as const;
  const contour = async (n: 0 | 1) => {
    const made = new Contour({
      name: names[n],
      url: await freshDatabase(await sharedPostgres()),
      broker: brokers[n],
      from: [names[1 - n] ?? ""],
      tables: [{ name: "users" }],
    });
    closers.push(() => made.close());
    await made.sql.unsafe(DDL);
    await made.prepare();
    return made;
  };
  const [a, b] = [await contour(0), await contour(1)];
  for (const one of [a, b]) await one.start();
  return { a, b };
}

function loads(contours: readonly Contour[]): PacedLoad[] {
  const started = contours.map(({ sql }, n) =>
    startPacedLoad(sql, { firstId: 1 + n * 100_000_000, perSecond: RATE / contours.length }),
  );
  closers.push(() => Promise.all(started.map((load) => load.stop())));
  return started;
}

const committed = (running: readonly PacedLoad[]) => running.reduce((sum, load) => sum + load.committed(), 0);

async function writtenFor(seconds: number, running: readonly PacedLoad[]): Promise<void> {
  const target = committed(running) + seconds * RATE * 0.2;
  const end = performance.now() + seconds * 1_000;
  await until("the application writes", () => performance.now() > end && committed(running) > target, 300_000);
}

/** Milliseconds until what is written now, and with it all before it, has arrived at the other contour, in both directions. */
async function arrival(contours: readonly [Contour, Contour], id: number): Promise<number> {
  const from = performance.now();
  const [a, b] = contours;
  const one = async (source: Contour, target: Contour, key: number) => {
    await source.sql`INSERT INTO users (id, name) VALUES (${key}, 'marker')`;
    await until(
      `a change of ${source.name} arrives`,
      async () => (await target.sql`SELECT FROM users WHERE id = ${key}`).length === 1,
      120_000,
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${a.logs()}\n${b.logs()}`);
    });
  };
  await Promise.all([one(a, b, -id), one(b, a, -id - 1)]);
  return performance.now() - from;
}

/** Nothing was lost, doubled, parked or left in the queue. */
async function expectWhole(contours: readonly [Contour, Contour], running: readonly PacedLoad[]) {
  const total = (await Promise.all(running.map((load) => load.stop()))).reduce((sum, count) => sum + count, 0);
  await untilEqual(contours, { users: "id" }, 120_000);
  for (const [n, contour] of contours.entries()) {
    const [counts] = await contour.sql`SELECT
      (SELECT count(*)::int FROM replication_queue WHERE published = FALSE) AS unpublished,
      (SELECT count(*)::int FROM inbox) AS parked,
      (SELECT count(*)::int FROM (SELECT event_id FROM processed_events GROUP BY event_id HAVING count(*) > 1) d) AS twice,
      (SELECT count(*)::int FROM processed_events) AS processed`;
    const [sent] = await (contours[1 - n] ?? contour).sql`SELECT count(*)::int AS events FROM replication_queue`;
    expect(counts).toEqual({ unpublished: 0, parked: 0, twice: 0, processed: sent?.events });
  }
  return total;
}

function report(what: string, figures: Record<string, number>): void {
  const text = Object.entries(figures).map(([name, value]) => `${name} ${Math.round(value)}`);
  process.stderr.write(`${what}: ${text.join(", ")}\n`);
}

describeWith(["nats", "postgres"], "two NATS clusters joined by gateways", () => {
  test("I5 I8: a node of each cluster killed and the gateway cut under load: both go on, and all arrives within 30 s of healing", async () => {
    const clusters = await startNatsClusters();
    closers.push(() => clusters.close());
    const config = (cluster: "A" | "B"): BrokerConfig => ({
      broker: "nats",
      nats: { ...clusters.config(cluster), replicas: 3 },
    });
    const { a, b } = await openContours([config("A"), config("B")]);
    await arrival([a, b], 1);
    const running = loads([a, b]);
    await writtenFor(2, running);

    const leaders = await leadersOf(clusters.config("A"), [`replicator_${a.name}`, `replicator_${b.name}`]);
    const victims = clusters.nodes.filter(({ name }) => leaders.includes(name));
    expect(victims.map(({ cluster }) => cluster).sort()).toEqual(["A", "B"]);
    await Promise.all(victims.map((node) => node.kill()));
    const afterKill = await arrival([a, b], 11);

    clusters.cut();
    await writtenFor(CUT_SECONDS, running);
    for (const contour of [a, b]) {
      await until("each side sends to its own cluster", async () => {
        const [row] = await contour.sql`SELECT count(*)::int AS n FROM replication_queue
          WHERE published = FALSE AND created_at < now() - interval '5 seconds'`;
        return row?.n === 0 || row;
      });
    }
    clusters.heal();
    const afterHeal = await arrival([a, b], 21);
    await Promise.all(victims.map((node) => node.start()));
    await writtenFor(3, running);
    const afterReturn = await arrival([a, b], 31);
    const changes = await expectWhole([a, b], running);
    report("NATS clusters, ms until a change arrives", { afterKill, afterHeal, afterReturn, changes });
    expect(Math.max(afterKill, afterHeal, afterReturn)).toBeLessThan(RECOVERY_MS);
  }, 600_000);
});

async function leadersOf(
  { servers, user, password }: { servers: string[]; user: string; password: string },
  streams: readonly string[],
): Promise<string[]> {
  const nc = await connect({ servers, user, pass: password });
  const manager = await jetstreamManager(nc, { checkAPI: false });
  const found = await Promise.all(
    streams.map(async (name) => (await manager.streams.info(name)).cluster?.leader ?? ""),
  );
  await nc.close();
  return found;
}

describeWith(["kafka", "postgres"], "three Kafka nodes", () => {
  test("I5 I8: the partition's leader and the group's coordinator killed under load, and back: all goes on within 30 s", async () => {
    const cluster = await startKafkaCluster();
    closers.push(() => cluster.close());
    const config: BrokerConfig = { broker: "kafka", kafka: { brokers: cluster.brokers } };
    const { a, b } = await openContours([config, config]);
    await arrival([a, b], 1);
    const admin = new Kafka({ brokers: [...cluster.brokers], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    closers.push(() => admin.disconnect());
    const partitions = async (topic: string) => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
      return topics[0]?.partitions ?? [];
    };
    const topic = `replicator.${a.name}.changes`;
    expect((await partitions(topic)).map(({ replicas }) => replicas.length)).toEqual([3]);
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: 2, name: topic, configNames: ["min.insync.replicas"] }],
    });
    expect(resources[0]?.configEntries[0]?.configValue).toBe("2");
    const { groups } = await admin.listGroups();
    const group = groups.map(({ groupId }) => groupId).find((id) => id.endsWith(topic));
    if (!group) throw new Error(`No consumer group reads ${topic}`);

    const running = loads([a, b]);
    const worst: number[] = [];
    for (const [round, whose] of (["leader", "coordinator"] as const).entries()) {
      await writtenFor(2, running);
      const [log, index] = whose === "leader" ? [topic, 0] : ["__consumer_offsets", coordinating(group)];
      const leader = (await partitions(log)).find(({ partitionId }) => partitionId === index)?.leader;
      const victim = cluster.nodes.find(({ id }) => id === leader);
      if (!victim) throw new Error(`${log} ${index} has no leader`);
      await victim.kill();
      worst.push(await arrival([a, b], round * 100 + 11));
      await writtenFor(CUT_SECONDS / 4, running);
      await victim.start();
      await until("the node has caught up", async () => {
        const all = [...(await partitions(topic)), ...(await partitions(`replicator.${b.name}.changes`))];
        return all.every(({ isr }) => isr.length === 3) || all.map(({ isr }) => isr);
      });
      worst.push(await arrival([a, b], round * 100 + 21));
    }
    const changes = await expectWhole([a, b], running);
    const [leader, leaderBack, coordinator, coordinatorBack] = worst as [number, number, number, number];
    report("Kafka nodes, ms until a change arrives", { leader, leaderBack, coordinator, coordinatorBack, changes });
    expect(Math.max(...worst)).toBeLessThan(RECOVERY_MS);
  }, 600_000);
});

/** The partition of __consumer_offsets whose leader coordinates a group: Java's hash of its name. */
function coordinating(group: string): number {
  let hash = 0;
  for (let at = 0; at < group.length; at++) hash = (Math.imul(hash, 31) + group.charCodeAt(at)) | 0;
  return (hash & 0x7fffffff) % 12;
}
