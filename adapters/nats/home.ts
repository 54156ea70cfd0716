/** Which cluster is ours: the one we are connected to, as its servers say it. */
import type { StreamInfo } from "@nats-io/jetstream";
import type { ServerInfo } from "@nats-io/nats-core";

/** What the server says of itself beyond what the client library declares. */
interface Said extends ServerInfo {
  /** The JetStream domain of the server. */
  readonly domain?: string;
  /** The cluster's name was made up at its start and is another one after the next. */
  readonly cluster_dynamic?: boolean;
}

/** Our cluster, as far as streams can be placed in it. */
export interface Home {
  readonly cluster: string;
  /** Its servers, as far as it tells. */
  readonly servers: number;
}

/**
 * Null outside a cluster, and where the JetStream that answers is not that of the servers we are connected to: behind a
 * leaf node their cluster's name says nothing about where streams live.
 * @param domain `nats.domain`
 */
export function homeOf(server: ServerInfo | undefined, domain: string | undefined): Home | null {
  const said: Said | undefined = server;
  if (!said?.cluster || said.cluster_dynamic || !said.jetstream) return null;
  if (domain !== undefined && domain !== said.domain) return null;
  return { cluster: said.cluster, servers: Math.max(1, said.connect_urls?.length ?? 1) };
}

/** The cluster a stream lives in, when that is known and not ours; null otherwise. */
export function foreignCluster(stream: Pick<StreamInfo, "cluster">, home: Home | null): string | null {
  const cluster = stream.cluster?.name;
  return home !== null && cluster !== undefined && cluster !== "" && cluster !== home.cluster ? cluster : null;
}
