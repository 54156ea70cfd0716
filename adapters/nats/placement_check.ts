/** What `check` says about where streams and their mirrors live, when gateways join clusters. */
import type { JetStreamManager, StreamInfo } from "@nats-io/jetstream";
import { millis } from "@nats-io/nats-core";
import type { BrokerFinding } from "../../src/core/broker.ts";
import { info, warning } from "./finding.ts";
import { foreignCluster, type Home } from "./home.ts";
import { isStalled, mirroredIdentity, mirrorName } from "./mirror.ts";
import type { NatsOptions } from "./options.ts";
import { isCutOff } from "./source_log.ts";
import { findStream, streamIdentity } from "./stream.ts";

export interface Placed {
  readonly stream: StreamInfo;
  /** The contour whose stream it is. */
  readonly contour: string;
  readonly home: Home | null;
  readonly options: NatsOptions;
}

/** Nothing without gateways: every stream lives in the one cluster. @throws the client's errors */
export async function placementFindings(manager: JetStreamManager, placed: Placed): Promise<BrokerFinding[]> {
  const { stream, contour, home, options } = placed;
  const cluster = foreignCluster(stream, home);
  if (!home || cluster === null) return [];
  const { name } = stream.config;
  if (contour === options.contour) {
    return [
      warning(
        "broker.stream_placement",
        `The NATS stream "${name}" of this contour lives in the cluster "${cluster}", this one is "${home.cluster}": nothing is sent while the gateway is down`,
        `Move it: nats stream edit ${name} --cluster ${home.cluster}`,
      ),
    ];
  }
  const remote = info(
    "broker.remote_stream",
    `The NATS stream "${name}" lives in the cluster "${cluster}", this one is "${home.cluster}": it is read from a mirror here, which stands still while the gateway is down`,
    "Nothing is lost: what is not read stays in the stream, what is not applied stays in the queue of its contour",
  );
  const copy = mirrorName(name, home.cluster);
  try {
    return [remote, ...mirrorFindings(stream, await findStream(manager, copy), home)];
  } catch (error) {
    if (!isCutOff(error)) throw error;
    return [remote, silent(copy)];
  }
}

/** A stream or a mirror that is there and gives no answer. */
export function silent(stream: string): BrokerFinding {
  return warning(
    "broker.stream_silent",
    `The NATS stream "${stream}" does not answer: its cluster is cut off from here, or the majority of its servers is away`,
    "Look at the gateways (curl http://nats:8222/gatewayz) and at the servers of its cluster (nats server report jetstream)",
  );
}

/** @param mirror of the stream, in our cluster; null when there is none */
export function mirrorFindings(stream: StreamInfo, mirror: StreamInfo | null, home: Home): BrokerFinding[] {
  const { name } = stream.config;
  if (!mirror) {
    return [
      info(
        "broker.mirror_missing",
        `The NATS stream "${name}" has no mirror in the cluster "${home.cluster}" yet`,
        `The consumer makes "${mirrorName(name, home.cluster)}" when it starts; that takes the gateway`,
      ),
    ];
  }
  const findings: BrokerFinding[] = [];
  const copy = `The NATS mirror "${mirror.config.name}"`;
  const remove = `nats stream rm ${mirror.config.name}`;
  if (mirror.config.mirror?.name !== name || mirroredIdentity(mirror) === null) {
    findings.push(
      warning(
        "broker.mirror_unsuitable",
        `${copy} was not made by the replicator: the stream "${name}" is read through the gateway instead`,
        `Remove it once it is not needed (${remove}); it is made anew`,
      ),
    );
  } else if (mirroredIdentity(mirror) !== streamIdentity(stream)) {
    findings.push(
      warning(
        "broker.mirror_stale",
        `${copy} was filled from another stream "${name}" than the one of today`,
        `A running consumer makes it anew within seconds, or: ${remove}`,
      ),
    );
  }
  const behind = stream.state.last_seq - mirror.state.last_seq;
  if (behind > 0 && isStalled(mirror)) {
    const since = (mirror.mirror?.active ?? -1) < 0 ? "yet" : `for ${seconds(mirror.mirror?.active ?? 0)} s`;
    findings.push(
      warning(
        "broker.mirror_lag",
        `${copy} is ${behind} messages behind and has heard nothing from its origin ${since}; consumers read the origin through the gateway meanwhile`,
        `The servers try again within 2 minutes; sooner: nats stream cluster step-down ${mirror.config.name}`,
      ),
    );
  }
  const elsewhere = foreignCluster(mirror, home);
  if (elsewhere !== null) {
    findings.push(
      warning(
        "broker.mirror_placement",
        `${copy} lives in the cluster "${elsewhere}", this one is "${home.cluster}"`,
        `Move it: nats stream edit ${mirror.config.name} --cluster ${home.cluster}`,
      ),
    );
  }
  if (mirror.config.num_replicas < 2) {
    findings.push(
      warning(
        "broker.mirror_replicas",
        `${copy} has one copy: while its server is down it is not read, and changes come through the gateway or not at all`,
        `With three servers or more: nats stream edit ${mirror.config.name} --replicas 3, and nats.replicas: 3`,
      ),
    );
  }
  return findings;
}

function seconds(nanoseconds: number): number {
  return Math.round(millis(nanoseconds) / 1000);
}
