/** Two NATS clusters of three real servers each, joined by gateways that pass through lines of ours. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { natsServer } from "../../tools/cache.mjs";
import { NATS_USER, type NatsNode, type NatsPorts, natsNodes, natsServers } from "../../tools/cluster/nats_nodes.ts";
import { type Link, startLink } from "./link.ts";
import { freePort, scratch } from "./scratch.ts";
import { type TestServer, testServer } from "./server.ts";

export interface ClusterNode extends TestServer {
  readonly name: string;
  readonly cluster: "A" | "B";
  readonly url: string;
  /** Address of /connz, /gatewayz, /jsz. */
  readonly monitor: string;
}

export interface NatsClusters {
  readonly nodes: readonly ClusterNode[];
  /** What a replicator of the contour at this cluster has in `nats:`. */
  config(cluster: "A" | "B"): { servers: string[]; user: string; password: string };
  /** The whole gateway between the two clusters, all of its connections. */
  cut(): void;
  heal(): void;
  close(): Promise<void>;
}

const PASSWORD = "password123";

/** All six started: JetStream elects its first leader only when every server has been there once. */
export async function startNatsClusters(): Promise<NatsClusters> {
  const program: string = natsServer();
  if (!existsSync(program)) throw new Error("nats-server is not in .cache: node tools/bootstrap.mjs nats");
  const folder = scratch("nats-clusters");
  const ports: NatsPorts[] = [];
  for (let node = 0; node < 6; node++) {
    const [client, monitor, route, gateway] = [await freePort(), await freePort(), await freePort(), await freePort()];
    ports.push({ client, monitor, route, gateway });
  }
  const links = new Map<number, Link>();
  for (const { gateway } of ports) links.set(gateway, await startLink(gateway));
  const described = natsNodes({
    ports,
    data: join(folder, "data"),
    password: PASSWORD,
    adminPassword: PASSWORD,
    gatewayPort: (node) => links.get(node.ports.gateway)?.port ?? node.ports.gateway,
  });
  const nodes = described.map((node) => clusterNode(node, program, scratch(node.name)));
  await Promise.all(nodes.map((node) => node.start()));
  return {
    nodes,
    config: (cluster) => ({ servers: natsServers(described, cluster), user: NATS_USER, password: PASSWORD }),
    cut: () => {
      for (const link of links.values()) link.cut();
    },
    heal: () => {
      for (const link of links.values()) link.heal();
    },
    close: async () => {
      await Promise.all(nodes.map((node) => node.close()));
      await Promise.all([...links.values()].map((link) => link.close()));
    },
  };
}

function clusterNode(node: NatsNode, program: string, folder: string): ClusterNode {
  return {
    ...testServer({
      name: node.name,
      program,
      args: ["-c", node.config],
      cwd: folder,
      folder,
      env: { ...node.environment },
      ready: /Server is ready/,
    }),
    name: node.name,
    cluster: node.cluster,
    url: `nats://127.0.0.1:${node.ports.client}`,
    monitor: `http://127.0.0.1:${node.ports.monitor}`,
  };
}
