/**
 * The two NATS clusters of three servers each as they run on one machine: compose/nats/cluster-{a,b}.conf with what
 * differs between the servers in the environment. The tests and `bun run cluster nats` start these.
 */
import { join } from "node:path";
import { ROOT } from "../cache.mjs";

export const NATS_PORT_KINDS = ["client", "monitor", "route", "gateway"] as const;
export type NatsPorts = Readonly<Record<(typeof NATS_PORT_KINDS)[number], number>>;

export interface NatsNode {
  /** `nats-a-1` … `nats-b-3` */
  readonly name: string;
  readonly cluster: "A" | "B";
  readonly ports: NatsPorts;
  readonly config: string;
  /** The variables that the configuration refers to. */
  readonly environment: Readonly<Record<string, string>>;
}

export interface NatsNodesOptions {
  /** Of the servers nats-a-1, nats-a-2, nats-a-3, nats-b-1, nats-b-2, nats-b-3. */
  readonly ports: readonly NatsPorts[];
  /** Each server's data goes to a folder of its name in here. */
  readonly data: string;
  readonly password: string;
  readonly adminPassword: string;
  /** Port under which the other cluster reaches a server's gateway, where that is not its own. */
  gatewayPort?(node: { readonly name: string; readonly ports: NatsPorts }): number;
}

const NAMES = ["nats-a-1", "nats-a-2", "nats-a-3", "nats-b-1", "nats-b-2", "nats-b-3"] as const;
/** The user of the replicators in the account CLIENT, as the configuration has it. */
export const NATS_USER = "replication";
/** The user of the system account. */
export const NATS_ADMIN = "admin";

/** The usual ports, counted on; or from `base` on: clients base … base+5, monitors base+10 …, routes base+20 …, gateways base+30 …. */
export function natsPorts(base?: number): NatsPorts[] {
  return NAMES.map((_, index) => {
    if (base !== undefined)
      return { client: base + index, monitor: base + 10 + index, route: base + 20 + index, gateway: base + 30 + index };
    // 8222 is nats-a-1 and 8223 nats-b-1, the two that are looked at first.
    const monitor = 8_222 + (index % 3) * 2 + Math.floor(index / 3);
    return { client: 4_222 + index, monitor, route: 6_222 + index, gateway: 7_222 + index };
  });
}

export function natsNodes(options: NatsNodesOptions): NatsNode[] {
  const nodes = NAMES.map((name, index) => {
    const ports = options.ports[index];
    if (!ports) throw new Error(`No ports were given for ${name}`);
    return { name, ports, cluster: index < 3 ? ("A" as const) : ("B" as const) };
  });
  const gatewayPort = options.gatewayPort ?? (({ ports }) => ports.gateway);
  const urls = (cluster: "A" | "B", scheme: string, port: (node: (typeof nodes)[number]) => number) =>
    `[${nodes
      .filter((node) => node.cluster === cluster)
      .map((node) => `"${scheme}://127.0.0.1:${port(node)}"`)
      .join(", ")}]`;
  return nodes.map((node) => ({
    ...node,
    config: join(ROOT, "compose", "nats", `cluster-${node.cluster.toLowerCase()}.conf`),
    environment: {
      NATS_NAME: node.name,
      NATS_LISTEN: address(node.ports.client),
      NATS_MONITOR: address(node.ports.monitor),
      NATS_DATA: JSON.stringify(join(options.data, node.name)),
      NATS_ROUTE: address(node.ports.route),
      NATS_ROUTES: urls(node.cluster, "nats-route", ({ ports }) => ports.route),
      NATS_GATEWAY: address(node.ports.gateway),
      NATS_GATEWAY_ADVERTISE: address(gatewayPort(node)),
      NATS_GATEWAYS_A: urls("A", "nats", gatewayPort),
      NATS_GATEWAYS_B: urls("B", "nats", gatewayPort),
      // A value is read as configuration: quoted, a password of digits stays text.
      NATS_PASSWORD: JSON.stringify(options.password),
      NATS_ADMIN_PASSWORD: JSON.stringify(options.adminPassword),
    },
  }));
}

/** Addresses of a cluster's servers for `nats.servers`. */
export function natsServers(nodes: readonly NatsNode[], cluster: "A" | "B"): string[] {
  return nodes.filter((node) => node.cluster === cluster).map(({ ports }) => `nats://127.0.0.1:${ports.client}`);
}

function address(port: number): string {
  return `"127.0.0.1:${port}"`;
}
