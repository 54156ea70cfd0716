import { describe, expect, test } from "bun:test";
import { DeadlinePassed } from "../../../adapters/kafka/deadline.ts";
import { translate } from "../../../adapters/kafka/errors.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";

/** An error as kafkajs makes them: the name is what counts. */
function kafkaError(name: string, message: string, facts: object = {}): Error {
  return Object.assign(new Error(message), { name, ...facts });
}

const protocol = (type: string) => kafkaError("KafkaJSProtocolError", type, { type });
const connection = (message: string, code = "") => kafkaError("KafkaJSConnectionError", message, { code });
const exhausted = (cause: Error) => kafkaError("KafkaJSNumberOfRetriesExceeded", cause.message, { cause });

describe("Kafka's errors as ours", () => {
  const cases: readonly [string, Error, string, string][] = [
    [
      "a refused password",
      kafkaError(
        "KafkaJSSASLAuthenticationError",
        "SASL SCRAM SHA256 authentication failed: Authentication failed during authentication due to invalid credentials",
      ),
      "broker.auth_failed",
      "never",
    ],
    [
      "a connection lost during authentication",
      kafkaError(
        "KafkaJSSASLAuthenticationError",
        "SASL SCRAM SHA256 authentication failed: Connection closed by the server",
      ),
      "broker.unreachable",
      "backoff",
    ],
    ["a mechanism the broker lacks", protocol("UNSUPPORTED_SASL_MECHANISM"), "broker.auth_failed", "never"],
    [
      "a certificate of a stranger",
      exhausted(
        connection("Connection error: self signed certificate in certificate chain", "SELF_SIGNED_CERT_IN_CHAIN"),
      ),
      "broker.tls_failed",
      "never",
    ],
    [
      "a wrong host name in the certificate",
      connection("Connection error: Hostname/IP does not match certificate's altnames", "ERR_TLS_CERT_ALTNAME_INVALID"),
      "broker.tls_failed",
      "never",
    ],
    [
      "TLS spoken to a listener without",
      connection("Connection error: wrong version number"),
      "broker.tls_failed",
      "never",
    ],
    [
      "nobody listening",
      exhausted(connection("Connection error: connect ECONNREFUSED 127.0.0.1:9092", "ECONNREFUSED")),
      "broker.unreachable",
      "backoff",
    ],
    [
      "a request without an answer",
      kafkaError("KafkaJSRequestTimeoutError", "Request Metadata timed out"),
      "broker.unreachable",
      "backoff",
    ],
    ["a deadline of ours", new DeadlinePassed(5), "broker.unreachable", "backoff"],
    ["a large message", protocol("MESSAGE_TOO_LARGE"), "broker.message_too_large", "never"],
    ["a large batch", protocol("RECORD_LIST_TOO_LARGE"), "broker.message_too_large", "never"],
    ["a topic without rights", exhausted(protocol("TOPIC_AUTHORIZATION_FAILED")), "broker.not_authorized", "never"],
    ["a group without rights", protocol("GROUP_AUTHORIZATION_FAILED"), "broker.not_authorized", "never"],
    ["a missing topic", exhausted(protocol("UNKNOWN_TOPIC_OR_PARTITION")), "broker.topic_missing", "backoff"],
    ["too few replicas in sync", protocol("NOT_ENOUGH_REPLICAS"), "broker.not_enough_replicas", "backoff"],
    ["a leader that moves", protocol("NOT_LEADER_FOR_PARTITION"), "broker.unavailable", "backoff"],
    [
      "a part of an aggregate",
      kafkaError("KafkaJSAggregateError", "Topic creation errors", {
        errors: [protocol("INVALID_REPLICATION_FACTOR")],
      }),
      "broker.bad_replication_factor",
      "never",
    ],
    ["something nobody foresaw", new TypeError("x is not a function"), "broker.unavailable", "backoff"],
  ];
  for (const [what, error, code, retry] of cases) {
    test(`${what} is ${code}, retry ${retry}`, () => {
      const translated = translate(error, 'send to topic "users"');
      expect(translated).toMatchObject({ code, retry, fault: "environment", cause: error });
      expect(translated.message).toStartWith('Cannot send to topic "users": ');
      if (retry === "never") expect(translated.remedy).toBeTruthy();
    });
  }

  test("an error of ours passes unchanged", () => {
    const ours = new ReplicatorError({ code: "broker.closed", message: "m", retry: "never", fault: "internal" });
    expect(translate(ours, "send")).toBe(ours);
  });
});
