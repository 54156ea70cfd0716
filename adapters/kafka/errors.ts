/** Turns what kafkajs throws into ReplicatorError: one table from protocol codes, one list of rules for the rest. */
import { ReplicatorError, type Retry } from "../../src/core/errors.ts";
import { DeadlinePassed } from "./deadline.ts";

interface Rule {
  readonly code: string;
  readonly retry: Retry;
  readonly reason: string;
  readonly remedy?: string;
}

const AUTH: Rule = {
  code: "broker.auth_failed",
  retry: "never",
  reason: "the broker refused the credentials",
  remedy:
    "Correct kafka.sasl (mechanism, username, password); kafka-configs.sh --describe --entity-type users lists whom the broker knows",
};

const TLS: Rule = {
  code: "broker.tls_failed",
  retry: "never",
  reason: "the TLS handshake failed",
  remedy:
    "Correct kafka.ssl: ca must have signed the broker's certificate, whose names must include the host in kafka.brokers; cert and key must belong together",
};

const UNREACHABLE: Rule = {
  code: "broker.unreachable",
  retry: "backoff",
  reason: "no broker answers",
  remedy:
    "Check kafka.brokers, the brokers' advertised.listeners, the network between, and whether the listener wants TLS (kafka.ssl)",
};

const UNAVAILABLE: Rule = { code: "broker.unavailable", retry: "backoff", reason: "the broker is not ready" };

const TOO_LARGE: Rule = {
  code: "broker.message_too_large",
  retry: "never",
  reason: "the message is larger than the topic's max.message.bytes",
  remedy: `Raise it: kafka-configs.sh --alter --entity-type topics --entity-name <topic> --add-config max.message.bytes=2097152`,
};

const TOPIC_MISSING: Rule = {
  code: "broker.topic_missing",
  retry: "backoff",
  reason: "the topic or partition does not exist",
  remedy: "The publisher creates its topics when it starts; start it, or create the topic by hand",
};

const RIGHTS = "Grant it: kafka-acls.sh --add --allow-principal User:<kafka.sasl.username> --operation";

const PROTOCOL: Readonly<Record<string, Rule>> = {
  SASL_AUTHENTICATION_FAILED: AUTH,
  UNSUPPORTED_SASL_MECHANISM: { ...AUTH, reason: "the broker does not offer the SASL mechanism" },
  ILLEGAL_SASL_STATE: { ...AUTH, reason: "the listener does not expect SASL" },
  MESSAGE_TOO_LARGE: TOO_LARGE,
  RECORD_LIST_TOO_LARGE: TOO_LARGE,
  TOPIC_AUTHORIZATION_FAILED: {
    code: "broker.not_authorized",
    retry: "never",
    reason: "the user has no right on the topic",
    remedy: `${RIGHTS} Read --operation Write --operation Create --operation DescribeConfigs --topic <topic>`,
  },
  GROUP_AUTHORIZATION_FAILED: {
    code: "broker.not_authorized",
    retry: "never",
    reason: "the user has no right on the consumer group",
    remedy: `${RIGHTS} Read --group <consumer.group> --resource-pattern-type prefixed`,
  },
  CLUSTER_AUTHORIZATION_FAILED: {
    code: "broker.not_authorized",
    retry: "never",
    reason: "the user may not create topics",
    remedy: "Create the topic by hand, or grant Create on the cluster to the user of kafka.sasl",
  },
  UNKNOWN_TOPIC_OR_PARTITION: TOPIC_MISSING,
  NOT_ENOUGH_REPLICAS: {
    code: "broker.not_enough_replicas",
    retry: "backoff",
    reason: "fewer replicas are in sync than the topic's min.insync.replicas",
    remedy:
      "Bring the missing brokers back; kafka-topics.sh --describe --under-min-isr-partitions lists what lacks them",
  },
  INVALID_REPLICATION_FACTOR: {
    code: "broker.bad_replication_factor",
    retry: "never",
    reason: "the cluster has fewer brokers than the replication factor asks for",
    remedy: "Lower kafka.topic.replication_factor, or leave it out",
  },
  INVALID_TOPIC_EXCEPTION: {
    code: "broker.bad_topic_name",
    retry: "never",
    reason: "Kafka does not take the topic's name",
    remedy: "A table's topic may have letters, digits, dot, underscore and hyphen, 249 at most",
  },
  INVALID_CONFIG: {
    code: "broker.bad_topic_settings",
    retry: "never",
    reason: "the broker refused the topic's settings",
    remedy: "Correct kafka.topic (replication_factor, min_insync_replicas, retention)",
  },
  POLICY_VIOLATION: {
    code: "broker.bad_topic_settings",
    retry: "never",
    reason: "a policy of the cluster forbids the topic",
    remedy: "Correct kafka.topic to what the policy allows, or create the topic by hand",
  },
  INCONSISTENT_GROUP_PROTOCOL: {
    code: "broker.group_taken",
    retry: "never",
    reason: "another kind of client is a member of the consumer group",
    remedy: "Give this contour a group of its own: consumer.group",
  },
  INVALID_SESSION_TIMEOUT: {
    code: "broker.bad_session_timeout",
    retry: "never",
    reason: "the broker does not allow a session timeout of 6 s",
    remedy: "Set group.min.session.timeout.ms of the brokers to 6000 or less",
  },
  UNSUPPORTED_VERSION: {
    code: "broker.unsupported_version",
    retry: "never",
    reason: "the broker does not speak the client's protocol version",
    remedy: "Use Kafka 2.1 to 4.x",
  },
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: {
    code: "broker.not_enough_replicas",
    retry: "backoff",
    reason: "the message was written, but to fewer replicas than min.insync.replicas",
    remedy: "Bring the missing brokers back; the message is sent again, duplicates are dropped",
  },
};

/** Codes of OpenSSL and Node for a certificate or handshake that will not get better by waiting. */
const TLS_CODE = /CERT|SELF_SIGNED|UNABLE_TO_|ALTNAME|ERR_SSL|ERR_TLS|WRONG_VERSION_NUMBER|HANDSHAKE/i;
const TLS_TEXT = /certificate|self.signed|altname|wrong version number|handshake|tlsv1 alert|ssl3_/i;
/** kafkajs names a connection lost during authentication an authentication error. */
const LOST_CONNECTION = /connection|closed|timed out|timeout|not connected|ECONN|EPIPE/i;

/** @param action what was tried, as it follows "Cannot": `send to topic "users"` */
export function translate(error: unknown, action: string): ReplicatorError {
  if (error instanceof ReplicatorError) return error;
  const rule = ruleOf(error);
  const detail = innermost(error);
  return new ReplicatorError({
    code: rule.code,
    message: `Cannot ${action}: ${rule.reason}${detail ? ` (${detail})` : ""}`,
    retry: rule.retry,
    fault: "environment",
    remedy: rule.remedy,
    cause: error,
  });
}

export function closedError(action: string): ReplicatorError {
  return new ReplicatorError({
    code: "broker.closed",
    message: `Cannot ${action}: the broker was closed`,
    retry: "never",
    fault: "internal",
  });
}

/** Refused before it was sent; has the broker's own code so that it takes the same path. */
export class RefusedAsTooLarge extends Error {
  readonly type = "MESSAGE_TOO_LARGE";
}

/** Unknown, not unsent: the broker may have written the messages (core/broker.ts). */
export function sendTimeout(topic: string, deadlineMs: number): ReplicatorError {
  return new ReplicatorError({
    code: "broker.send_timeout",
    message: `Sent to topic "${topic}" and had no answer within ${deadlineMs} ms`,
    retry: "backoff",
    fault: "environment",
    facts: { topic, deadline_ms: deadlineMs },
    remedy: UNREACHABLE.remedy,
  });
}

function ruleOf(error: unknown): Rule {
  if (error instanceof DeadlinePassed) return UNREACHABLE;
  for (const link of chain(error)) {
    const { name, type, code, message } = link;
    const protocol = type === undefined ? undefined : PROTOCOL[type];
    if (protocol) return protocol;
    if (name === "KafkaJSSASLAuthenticationError") return LOST_CONNECTION.test(message) ? UNREACHABLE : AUTH;
    if (TLS_CODE.test(code) || (name.startsWith("KafkaJSConnection") && TLS_TEXT.test(message))) return TLS;
    if (name === "KafkaJSTopicMetadataNotLoaded") return TOPIC_MISSING;
  }
  for (const { name } of chain(error)) {
    if (/^KafkaJS(Connection|RequestTimeout|BrokerNotFound|NoBrokerAvailable|Timeout)/.test(name)) return UNREACHABLE;
  }
  return UNAVAILABLE;
}

interface Link {
  readonly name: string;
  readonly message: string;
  readonly type: string | undefined;
  readonly code: string;
}

/** The error, its causes, and the parts of an aggregate, outermost first. */
function* chain(error: unknown, depth = 0): Generator<Link> {
  if (!(error instanceof Error) || depth > 8) return;
  const type = "type" in error && typeof error.type === "string" ? error.type : undefined;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  yield { name: error.name, message: error.message, type, code };
  if ("errors" in error && Array.isArray(error.errors)) for (const part of error.errors) yield* chain(part, depth + 1);
  yield* chain(error.cause, depth + 1);
}

function innermost(error: unknown): string {
  return [...chain(error)].at(-1)?.message ?? "";
}

/** True when the broker said that the batch is above its limit: then its messages are tried in smaller batches. */
export function isTooLarge(error: unknown): boolean {
  return ruleOf(error).code === "broker.message_too_large";
}
