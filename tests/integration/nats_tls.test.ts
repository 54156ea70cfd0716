/** TLS, users and accounts: who may connect, and what refused ones are told. The server is always verified. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { NatsBroker } from "../../adapters/nats/broker.ts";
import type { NatsOptions } from "../../adapters/nats/options.ts";
import { type Authority, makeAuthority } from "../servers/certificates.ts";
import { type NatsServer, startNats } from "../servers/nats.ts";
import { until } from "../support/until.ts";
import { failures, messages, natsBroker, newChannel, Reader, rejection, sendAll } from "./nats_support.ts";

const PASSWORD = "sécret-pässword";
const open: NatsBroker[] = [];
const broker = (options: Partial<NatsOptions> & Pick<NatsOptions, "servers">) => {
  const made = natsBroker(options);
  open.push(made);
  return made;
};
const never = new AbortController().signal;

let authority: Authority;
let stranger: Authority;

beforeAll(() => {
  authority = makeAuthority();
  stranger = makeAuthority("stranger");
});
afterEach(async () => {
  for (const made of open.splice(0)) await made.close();
});

/** What one who tries to use the broker is told. */
async function refusal(options: Partial<NatsOptions> & Pick<NatsOptions, "servers">): Promise<unknown> {
  const error = await rejection(broker(options).ensureChannel(newChannel(), AbortSignal.timeout(15_000)));
  expect(String((error as Error | null)?.message)).not.toContain(PASSWORD);
  return error;
}

describe("NATS with TLS and a user", () => {
  let server: NatsServer;
  let address: string;
  beforeAll(async () => {
    const { cert, key } = authority.issue("localhost");
    server = await startNats({ user: "replicator", password: PASSWORD, tls: { ca: authority.ca, cert, key } });
    address = server.url;
  });
  afterAll(() => server.close());

  test("messages pass with the right authority and password, by name and by IP address", async () => {
    for (const host of ["localhost", "127.0.0.1"]) {
      const one = broker({
        servers: [`nats://${host}:${server.port}`],
        user: "replicator",
        password: PASSWORD,
        tls: { ca: authority.ca },
      });
      const channel = newChannel();
      await one.ensureChannel(channel, never);
      await sendAll(one, channel, messages(channel, 1, 5));
      const reader = new Reader(one, channel);
      await reader.reached(5);
      await reader.stop();
    }
  });

  test("credentials in the address are used, and shown to nobody", async () => {
    const encoded = encodeURIComponent(PASSWORD);
    const one = broker({
      servers: [`tls://replicator:${encoded}@localhost:${server.port}`],
      tls: { ca: authority.ca },
    });
    await one.ensureChannel(newChannel(), never);
    const error = await refusal({
      servers: [`tls://replicator:wrong-${encoded}@localhost:${server.port}`],
      tls: { ca: authority.ca },
    });
    expect(error).toMatchObject({ code: "broker.auth_failed", retry: "never" });
    expect(String((error as Error).message)).not.toContain(encoded);
  });

  test("a wrong password is refused with broker.auth_failed", async () => {
    const error = await refusal({
      servers: [address],
      user: "replicator",
      password: "wrong",
      tls: { ca: authority.ca },
    });
    expect(error).toMatchObject({ code: "broker.auth_failed", retry: "never", fault: "environment" });
    expect(error).toMatchObject({ remedy: expect.stringContaining("nats.password") });
  });

  test("a server of another authority is refused with broker.tls_failed", async () => {
    for (const tls of [{ ca: stranger.ca }, {}, undefined]) {
      const error = await refusal({ servers: [address], user: "replicator", password: PASSWORD, tls });
      expect(error).toMatchObject({ code: "broker.tls_failed", retry: "never" });
      expect(error).toMatchObject({ remedy: expect.stringContaining("nats.tls.ca") });
    }
  });
});

test("a server whose certificate names another host is refused, by name and by IP address", async () => {
  const { cert, key } = authority.issue("elsewhere", ["elsewhere.example"]);
  const server = await startNats({ tls: { ca: authority.ca, cert, key } });
  for (const host of ["localhost", "127.0.0.1"]) {
    const error = await refusal({ servers: [`nats://${host}:${server.port}`], tls: { ca: authority.ca } });
    expect(error).toMatchObject({ code: "broker.tls_failed", retry: "never" });
  }
  await server.close();
});

test("a server without TLS is refused where TLS is configured", async () => {
  const server = await startNats();
  expect(await refusal({ servers: [server.url], tls: { ca: authority.ca } })).toMatchObject({
    code: "broker.tls_failed",
    retry: "never",
  });
  expect(await refusal({ servers: [server.url.replace("nats:", "tls:")] })).toMatchObject({
    code: "broker.tls_failed",
  });
  await server.close();
});

test("a server that verifies clients takes the right certificate, and no or a foreign one ends in broker.tls_failed", async () => {
  const { cert, key } = authority.issue("localhost");
  const server = await startNats({ tls: { ca: authority.ca, cert, key, verify: true } });
  const own = authority.issue("client");
  const foreign = stranger.issue("client");
  await broker({ servers: [server.url], tls: { ca: authority.ca, cert: own.cert, key: own.key } }).ensureChannel(
    newChannel(),
    never,
  );
  const refused = await Promise.all([
    refusal({ servers: [server.url], tls: { ca: authority.ca } }),
    refusal({ servers: [server.url], tls: { ca: authority.ca, cert: foreign.cert, key: foreign.key } }),
  ]);
  for (const error of refused) expect(error).toMatchObject({ code: "broker.tls_failed", retry: "never" });
  await server.close();
}, 30_000);

describe("NATS with accounts and rights", () => {
  let server: NatsServer;
  beforeAll(async () => {
    const user = (name: string, permissions = "") =>
      `{ user: ${name}, password: p${permissions && `, permissions: { ${permissions} }`} }`;
    server = await startNats({
      config: `accounts {
        bare: { users: [ ${user("bare")} ] }
        full: { jetstream: enabled, users: [
          ${user("full")}, ${user("mute", 'publish: { deny: ["replicator.>"] }')}, ${user("reader", 'publish: { deny: ["$JS.API.STREAM.CREATE.>", "$JS.API.CONSUMER.>"] }')}
        ] }
      }`,
    });
  });
  afterAll(() => server.close());
  const as = (user: string) => broker({ servers: [server.url], user, password: "p" });

  test("an account without JetStream is told so, by check too", async () => {
    const refused = { code: "broker.no_jetstream", retry: "never" };
    expect(await refusal({ servers: [server.url], user: "bare", password: "p" })).toMatchObject(refused);
    const findings = await as("bare").check([newChannel()], never);
    expect(findings).toContainEqual(expect.objectContaining({ severity: "blocking", code: "broker.no_jetstream" }));
  });

  test("a user that may not publish fails each send at once with broker.not_authorized and the subject", async () => {
    const channel = newChannel();
    const one = as("mute");
    await one.ensureChannel(channel, never);
    const started = performance.now();
    const errors = failures(await one.publisher().send(channel, messages(channel, 1, 3), 10_000));
    expect(performance.now() - started).toBeLessThan(3_000);
    expect(errors.length).toBe(3);
    for (const error of errors) expect(error).toMatchObject({ code: "broker.not_authorized", retry: "never" });
    expect(errors[0]?.remedy).toContain(`replicator.${channel.contour}.changes`);
  });

  test("a user that may not make consumers is told so by its read", async () => {
    const channel = newChannel();
    await as("full").ensureChannel(channel, never);
    const reader = new Reader(as("reader"), channel);
    await until("the read ends", () => reader.failure !== null, 10_000);
    expect(reader.failure).toMatchObject({ code: "broker.not_authorized", retry: "never" });
    await reader.stop();
  });
});

test("a server without JetStream is told so", async () => {
  const server = await startNats({ config: "jetstream: disabled" });
  expect(await refusal({ servers: [server.url] })).toMatchObject({ code: "broker.no_jetstream", retry: "never" });
  await server.close();
});
