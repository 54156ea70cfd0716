/** The errors of the memory broker; codes are those of the other adapters. */
import { ReplicatorError } from "../../src/core/errors.ts";

export function closed(): ReplicatorError {
  return new ReplicatorError({
    code: "broker.closed",
    message: "Used the memory broker after it was closed",
    retry: "never",
    fault: "internal",
  });
}

export function unreachable(message: string): ReplicatorError {
  return new ReplicatorError({
    code: "broker.unreachable",
    message,
    retry: "backoff",
    fault: "environment",
    remedy: "The hub was stopped by a test or the demo: call resume()",
  });
}

export function sendTimeout(deadlineMs: number): ReplicatorError {
  return new ReplicatorError({
    code: "broker.send_timeout",
    message: `Sent a message and had no answer within ${deadlineMs} ms`,
    retry: "backoff",
    fault: "environment",
  });
}

/** Not sent, so the caller sends the same bytes again: back-pressure on the publisher (I11). */
export function logFull(name: string): ReplicatorError {
  return new ReplicatorError({
    code: "broker.log_full",
    message: `Tried to send to "${name}", whose readers are too far behind`,
    retry: "backoff",
    fault: "environment",
    remedy: "The log empties when its consumers have applied more; look at their errors when it does not",
  });
}

export function topicMissing(name: string): ReplicatorError {
  return new ReplicatorError({
    code: "broker.topic_missing",
    message: `Tried to send to "${name}", which does not exist`,
    retry: "backoff",
    fault: "environment",
  });
}

export function tooFewPartitions(name: string, found: number, expected: number): ReplicatorError {
  return new ReplicatorError({
    code: "broker.too_few_partitions",
    message: `Expected "${name}" to have ${expected} partitions, found ${found}`,
    retry: "never",
    fault: "environment",
    remedy: "Give the channel the same number of partitions wherever it is configured",
  });
}

export function messageTooLarge(bytes: number, limit: number): ReplicatorError {
  return new ReplicatorError({
    code: "broker.message_too_large",
    message: `Tried to send a message of ${bytes} bytes, the limit is ${limit}`,
    retry: "never",
    fault: "internal",
    remedy: "The product splits changes above its own limit; report this with the table's definition",
  });
}
