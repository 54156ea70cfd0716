/** TLS and SCRAM on a real broker: the server is always verified, and what is refused is said once and for good. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { createKafkaBroker } from "../../adapters/kafka/broker.ts";
import type { KafkaOptions } from "../../adapters/kafka/options.ts";
import {
  Claimant,
  failures,
  feedOf,
  messages,
  newChannel,
  sendAll,
  sequenceOf,
  take,
  unique,
  World,
  within,
} from "../conformance/broker/suite_support.ts";
import { type Certificates, makeCertificates } from "../servers/certificates.ts";
import { type KafkaServer, startKafka } from "../servers/kafka.ts";
import { describeWith } from "../support/needs.ts";

const PASSWORD = "a secret pass-phrase";
const SASL = { mechanism: "scram-sha-512", username: "replicator", password: PASSWORD } as const;

describeWith(["kafka", "openssl"], "Kafka with TLS and SCRAM", () => {
  let server: KafkaServer;
  let certificates: Certificates;
  let stranger: Certificates;
  let world: World;

  beforeAll(async () => {
    certificates = await makeCertificates();
    stranger = await makeCertificates();
    const { ca, cert, key } = certificates;
    // Beside SASL the broker asks for a client's certificate only when the listener itself says so.
    const settings = { "listener.name.secure.ssl.client.auth": "required" };
    server = await startKafka({ ssl: { ca, cert, key, clientAuth: true }, sasl: SASL, settings });
  }, 120_000);
  afterAll(() => server.close());
  beforeEach(() => {
    world = new World({ broker: () => secured(), close: async () => {} });
  });
  afterEach(() => world.end());

  const secured = (overrides: Partial<KafkaOptions> = {}) =>
    createKafkaBroker({
      brokers: [server.bootstrap],
      ssl: { ca: certificates.ca, ...certificates.client },
      sasl: SASL,
      ...overrides,
    });

  /** What ping, ensureChannel and send say. */
  async function refusals(overrides: Partial<KafkaOptions>) {
    const broker = world.adopt(secured(overrides));
    const channel = newChannel();
    const rejection = (promise: Promise<unknown>) =>
      promise.then(
        () => null,
        (error: unknown) => error,
      );
    const ping = await within(15_000, "ping", rejection(broker.ping(world.signal())));
    const outcomes = await within(15_000, "send", broker.publisher().send(channel, messages(channel, 1, 1), 10_000));
    for (const error of [ping, ...failures(outcomes)]) expect(String(error)).not.toContain(PASSWORD);
    return { broker, channel, ping, sent: failures(outcomes)[0], rejection };
  }

  test("messages pass with the right certificates and password", async () => {
    const broker = world.open();
    const channel = await world.ensured(broker);
    await sendAll(broker, channel, messages(channel, 1, 100));
    const claim = await new Claimant(broker, feedOf(broker, channel), unique("g")).claim();
    expect((await take(claim, null, 100)).map(sequenceOf)[99]).toBe(100);
  }, 60_000);

  test("a server certificate signed by a stranger is refused by us, and not tried again", async () => {
    const refused = { code: "broker.tls_failed", retry: "never", remedy: expect.stringContaining("kafka.ssl") };
    const { broker, channel, ping, sent, rejection } = await refusals({
      ssl: { ca: stranger.ca, ...certificates.client },
    });
    expect(ping).toMatchObject(refused);
    expect(sent).toMatchObject(refused);
    const ensuring = rejection(broker.ensureChannel(channel, world.signal()));
    expect(await within(15_000, "ensureChannel", ensuring)).toMatchObject(refused);
    const claimant = new Claimant(broker, feedOf(broker, channel), unique("g"));
    expect(await within(15_000, "claims", rejection(claimant.ended))).toMatchObject(refused);
  }, 90_000);

  test("without a certificate authority of ours the system's decide, and do not know the test's", async () => {
    const { ping } = await refusals({ ssl: true });
    expect(ping).toMatchObject({ code: "broker.tls_failed", retry: "never" });
  }, 60_000);

  test("a wrong password is refused by the broker, and not tried again", async () => {
    const { ping, sent } = await refusals({ sasl: { ...SASL, password: "wrong" } });
    const refused = { code: "broker.auth_failed", retry: "never", remedy: expect.stringContaining("kafka.sasl") };
    expect(ping).toMatchObject(refused);
    expect(sent).toMatchObject(refused);
  }, 60_000);

  test("no credentials at a listener that wants them, no TLS at a listener that wants it: an error in time, with a remedy", async () => {
    const plain = await refusals({ ssl: undefined });
    expect(plain.ping).toMatchObject({
      code: expect.stringMatching(/^broker\./),
      remedy: expect.stringContaining("kafka."),
    });
    const nobody = await refusals({ sasl: undefined });
    expect(nobody.ping).toMatchObject({
      code: expect.stringMatching(/^broker\./),
      remedy: expect.stringContaining("kafka."),
    });
  }, 90_000);

  test("a client certificate the broker does not know does not get in", async () => {
    const { ping } = await refusals({ ssl: { ca: certificates.ca, ...stranger.client } });
    expect(ping).toMatchObject({ code: expect.stringMatching(/^broker\.(tls_failed|unreachable)$/) });
  }, 60_000);
});
