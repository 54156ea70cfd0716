/**
 * The durable of a group for one partition: made anew at every read, from the position of the target's ledger. Its own
 * memory of acknowledgements serves lag and cleaning; it is what is read from only where nothing new can be made (the
 * cluster is cut off from the majority: 503/10008), and then what lies before its memory is fetched message by message.
 */
import { AckPolicy, type ConsumerInfo, DeliverPolicy, type JetStreamManager } from "@nats-io/jetstream";
import { nanos, errors as nats } from "@nats-io/nats-core";
import { apiCode, NOT_FOUND } from "./errors.ts";

/** Nothing waits for a redelivery: what was not applied is read again from the ledger's position. */
const ACK_WAIT_MS = 3_600_000;
/** Requests without an answer until a new durable is given up: an election takes up to nine seconds. */
const ELECTION_LOOKS = 2;
/** Which read made the durable: tells a takeover by another process from a deletion by hand. */
const READER = "replicator-reader";

export interface DurableRequest {
  readonly stream: string;
  readonly name: string;
  readonly subject: string;
  /** First stream sequence to deliver. */
  readonly start: number;
  /** Identity of the read. */
  readonly reader: string;
  /** On another cluster's stream, while our mirror stands still: one copy, which needs no election. */
  readonly brief: boolean;
}

export interface Durable {
  /** The consumer's number of its next delivery. */
  readonly nextDelivery: number;
  /** An old durable goes on behind this stream sequence: what is between it and the position has to be fetched; 0 for a new one. */
  readonly delivered: number;
  /** Whose mark it bears. */
  readonly reader: string;
}

/** @throws the client's errors; stream not found (10059) when the stream is gone */
export async function openDurable(manager: JetStreamManager, request: DurableRequest): Promise<Durable> {
  try {
    await remove(manager, request);
    await add(manager, request);
    return { nextDelivery: 1, delivered: 0, reader: request.reader };
  } catch (error) {
    if (!isCutOff(error)) throw error;
    const old = await findDurable(manager, request);
    if (!old) throw error;
    return { nextDelivery: old.delivered.consumer_seq + 1, delivered: old.delivered.stream_seq, reader: readerOf(old) };
  }
}

async function add(manager: JetStreamManager, request: DurableRequest): Promise<void> {
  try {
    await manager.consumers.add(request.stream, {
      durable_name: request.name,
      filter_subject: request.subject,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: request.start,
      ack_policy: AckPolicy.All,
      ack_wait: nanos(ACK_WAIT_MS),
      max_ack_pending: -1,
      max_deliver: -1,
      ...(request.brief ? { num_replicas: 1 } : {}),
      metadata: { [READER]: request.reader },
    });
  } catch (error) {
    if (!(error instanceof nats.TimeoutError)) throw error;
    await untilLed(manager, request, error);
  }
}

/**
 * With a server down the durable's own election outlasts a request: removed and made anew it would begin again each time.
 * @throws the first error when it is not there, the client's errors when it gets no leader
 */
async function untilLed(manager: JetStreamManager, request: DurableRequest, first: unknown): Promise<void> {
  for (let look = 1; ; look++) {
    try {
      const made = await findDurable(manager, request);
      if (made && readerOf(made) === request.reader) return;
      throw first;
    } catch (error) {
      if (error === first || look === ELECTION_LOOKS || !(error instanceof nats.TimeoutError)) throw error;
    }
  }
}

/** Whether another process has made the durable its own since our read opened it. */
export async function takenOver(manager: JetStreamManager, request: DurableRequest, opened: Durable): Promise<boolean> {
  const found = await findDurable(manager, request);
  return found !== null && readerOf(found) !== opened.reader;
}

/** What the durable has delivered, by its own numbers, and how many messages it has still to deliver; null when it is gone. */
export async function durableState(
  manager: JetStreamManager,
  request: Pick<DurableRequest, "stream" | "name">,
): Promise<{ readonly pending: number; readonly delivered: number } | null> {
  const found = await findDurable(manager, request);
  return found && { pending: found.num_pending, delivered: found.delivered.consumer_seq };
}

function readerOf(durable: ConsumerInfo): string {
  return durable.config.metadata?.[READER] ?? "";
}

async function remove(manager: JetStreamManager, { stream, name }: DurableRequest): Promise<void> {
  try {
    await manager.consumers.delete(stream, name);
  } catch (error) {
    if (apiCode(error) !== NOT_FOUND.consumer) throw error;
  }
}

async function findDurable(
  manager: JetStreamManager,
  { stream, name }: Pick<DurableRequest, "stream" | "name">,
): Promise<ConsumerInfo | null> {
  try {
    return await manager.consumers.info(stream, name);
  } catch (error) {
    if (apiCode(error) === NOT_FOUND.consumer) return null;
    throw error;
  }
}

/** No leader for the metadata: reading from what exists goes on, making something new does not. */
function isCutOff(error: unknown): boolean {
  const code = apiCode(error);
  return code === 10008 || code === 10009 || code === 10022;
}
