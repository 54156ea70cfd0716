/** How a send fails, beside what the server answers. */
import { ReplicatorError } from "../../src/core/errors.ts";
import { tooLargeEntry } from "./errors.ts";
import type { SendJob } from "./publish_order.ts";

/** What is attempted, for messages. */
export function sending(job: SendJob): string {
  return `send a message to "${job.subject}"`;
}

export function sendTimeout(job: SendJob): ReplicatorError {
  return new ReplicatorError({
    code: "broker.send_timeout",
    message: `Cannot tell whether NATS stored a message on "${job.subject}": no confirmation came within the deadline`,
    retry: "backoff",
    fault: "environment",
    remedy: "It is sent again; see that the servers in nats.servers answer (nats server check jetstream)",
  });
}

export function tooLarge(job: SendJob, bytes: number, limit: number): ReplicatorError {
  return new ReplicatorError({
    ...tooLargeEntry(),
    message: `Cannot ${sending(job)}: it has ${bytes} bytes, the NATS server takes ${limit}`,
    fault: "environment",
    facts: { bytes, limit },
  });
}

export function noStream(job: SendJob): ReplicatorError {
  return new ReplicatorError({
    code: "broker.no_stream",
    message: `Cannot ${sending(job)}: no stream takes in this subject`,
    retry: "backoff",
    fault: "environment",
    remedy: "The stream was removed, has no leader, or JetStream is off: nats stream ls; nats server report jetstream",
  });
}
