/** Who we are to the servers: users of accounts, nkeys, credentials files; and JetStream that is in another domain. */
import { afterEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { nkeys } from "@nats-io/nats-core";
import type { NatsBroker } from "../../adapters/nats/broker.ts";
import type { NatsOptions } from "../../adapters/nats/options.ts";
import { type NatsServer, startNats } from "../servers/nats.ts";
import { freePort, scratch } from "../servers/scratch.ts";
import { describeWith } from "../support/needs.ts";
import {
  administrator,
  messages,
  natsBroker,
  never,
  newChannel,
  Reader,
  range,
  rejection,
  sendAll,
} from "./nats_support.ts";

const { createAccount, createOperator, createUser } = nkeys;
type KeyPair = nkeys.KeyPair;

describeWith("nats", "accounts and domains of NATS", () => {
  const servers: NatsServer[] = [];
  const open: NatsBroker[] = [];
  const readers: Reader[] = [];
  afterEach(async () => {
    for (const reader of readers.splice(0)) await reader.stop();
    for (const made of open.splice(0)) await made.close();
    for (const server of servers.splice(0)) await server.close();
  });
  async function start(options: Parameters<typeof startNats>[0]): Promise<NatsServer> {
    const server = await startNats(options);
    servers.push(server);
    return server;
  }
  function broker(options: Partial<NatsOptions> & Pick<NatsOptions, "servers">): NatsBroker {
    const made = natsBroker(options);
    open.push(made);
    return made;
  }
  /** One sends, the other reads all of it; the lag is known, and check finds nothing that blocks. */
  async function carries(sender: NatsBroker, receiver: NatsBroker, channel = newChannel()) {
    await sender.ensureChannel(channel, never);
    const reader = new Reader(receiver, channel);
    readers.push(reader);
    await sendAll(sender, channel, messages(channel, 1, 30));
    await reader.reached(30);
    expect(reader.applied).toEqual(range(1, 30));
    const feed = sender.feeds([channel])[0];
    if (!feed) throw new Error("No feed");
    expect(await receiver.lag(feed, 0, reader.position)).toEqual({ messages: 0 });
    const findings = await receiver.check([channel], never);
    expect(findings.filter(({ severity }) => severity === "blocking")).toEqual([]);
    return channel;
  }
  const refused = { code: "broker.auth_failed", retry: "never" };

  test("users of an account share its streams; those of another account have their own of the same name", async () => {
    const { url } = await start({
      config: `accounts {
        CLIENT { jetstream: enabled, users: [ { user: replication, password: one }, { user: "re:ader", password: "t%wo@" } ] }
        OTHER { jetstream: enabled, users: [ { user: other, password: three } ] }
        BARE { users: [ { user: bare, password: four } ] }
      }`,
    });
    const client = { servers: [url], user: "replication", password: "one" };
    const channel = await carries(broker(client), broker({ servers: [url], user: "re:ader", password: "t%wo@" }));
    await carries(broker(client), broker({ servers: [url.replace("//", "//re%3Aader:t%25wo%40@")] }));
    const other = broker({ servers: [url], user: "other", password: "three" });
    const codes = (await other.check([channel], never)).map(({ code }) => code);
    expect(codes).toContain("broker.stream_missing");
    await carries(other, other, channel);
    const bare = broker({ servers: [url], user: "bare", password: "four" });
    expect(await bare.check([channel], never)).toContainEqual(
      expect.objectContaining({ severity: "blocking", code: "broker.no_jetstream" }),
    );
    const wrong = broker({ servers: [url], user: "replication", password: "two" });
    expect(await rejection(wrong.ensureChannel(channel, never))).toMatchObject(refused);
  }, 60_000);

  test("an nkey: its seed signs the server's challenge, another seed is refused", async () => {
    const pair = createUser();
    const { url } = await start({
      config: `accounts { CLIENT { jetstream: enabled, users: [ { nkey: ${pair.getPublicKey()} } ] } }`,
    });
    await carries(
      broker({ servers: [url], nkey: seedOf(pair) }),
      broker({ servers: [url], nkey: `${seedOf(pair)}\n` }),
    );
    const foreign = broker({ servers: [url], nkey: seedOf(createUser()) });
    expect(await rejection(foreign.ensureChannel(newChannel(), never))).toMatchObject(refused);
  }, 60_000);

  test("a credentials file: read anew at each connection, so a renewed one is used; a missing one says its path", async () => {
    const { config, credentials } = operatorMode();
    const { url } = await start({ config });
    const credentialsFile = join(scratch("creds"), "replicator.creds");
    const named = { servers: [url], credentialsFile };
    expect(await rejection(broker(named).ensureChannel(newChannel(), never))).toMatchObject({
      code: "broker.auth_failed",
      message: expect.stringContaining(credentialsFile),
    });
    writeFileSync(credentialsFile, credentials(true));
    await carries(broker(named), broker(named));
    writeFileSync(credentialsFile, credentials(false));
    expect(await rejection(broker(named).ensureChannel(newChannel(), never))).toMatchObject(refused);
    writeFileSync(credentialsFile, credentials(true));
    await carries(broker(named), broker(named));
  }, 60_000);

  test("a domain: the streams lie in the hub's JetStream although we are connected to a leaf that has its own", async () => {
    const leafPort = await freePort();
    const hub = await start({
      name: "hub",
      jetstream: "domain: hub",
      config: `leafnodes { listen: "127.0.0.1:${leafPort}" }`,
    });
    const leaf = await start({
      name: "leaf",
      jetstream: "domain: leaf",
      config: `leafnodes { remotes: [ { url: "nats-leaf://127.0.0.1:${leafPort}" } ] }`,
    });
    const channel = await carries(
      broker({ servers: [leaf.url], domain: "hub" }),
      broker({ servers: [hub.url], domain: "hub" }),
    );
    await carries(broker({ servers: [hub.url] }), broker({ servers: [leaf.url], domain: "hub" }));
    const atHub = await administrator(hub.url);
    expect((await atHub.manager.streams.info(`replicator_${channel.contour}`)).state.messages).toBe(30);
    await atHub.nc.close();
    const atLeaf = await administrator(leaf.url);
    expect((await atLeaf.manager.getAccountInfo()).streams).toBe(0);
    // Without a domain it is the leaf's own JetStream.
    const own = await carries(broker({ servers: [leaf.url] }), broker({ servers: [leaf.url], domain: "leaf" }));
    expect((await atLeaf.manager.streams.info(`replicator_${own.contour}`)).state.messages).toBe(30);
    await atLeaf.nc.close();
  }, 60_000);
});

function seedOf(pair: KeyPair): string {
  return new TextDecoder().decode(pair.getSeed());
}

/** A server that knows its accounts from signed JWTs only, and how to make a user's credentials: good ones, or expired. */
function operatorMode() {
  const [operator, account, system] = [createOperator(), createAccount(), createAccount()];
  const signed = (signer: KeyPair, subject: KeyPair, name: string, claims: object, expires = {}) => {
    const encode = (value: object | Uint8Array) =>
      Buffer.from(value instanceof Uint8Array ? value : JSON.stringify(value)).toString("base64url");
    const body = {
      jti: crypto.randomUUID(),
      iat: 1_700_000_000,
      iss: signer.getPublicKey(),
      sub: subject.getPublicKey(),
      name,
      nats: { version: 2, ...claims },
      ...expires,
    };
    const text = `${encode({ typ: "JWT", alg: "ed25519-nkey" })}.${encode(body)}`;
    return `${text}.${encode(signer.sign(new TextEncoder().encode(text)))}`;
  };
  const plain = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };
  const limits = { ...plain, mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };
  const preload = [
    `${account.getPublicKey()}: ${signed(operator, account, "CLIENT", { type: "account", limits })}`,
    `${system.getPublicKey()}: ${signed(operator, system, "SYS", { type: "account", limits: plain })}`,
  ];
  return {
    config: `operator: ${signed(operator, operator, "operator", { type: "operator" })}
system_account: ${system.getPublicKey()}
resolver: MEMORY
resolver_preload { ${preload.join("\n")} }`,
    credentials: (valid: boolean) => {
      const user = createUser();
      const claims = { type: "user", subs: -1, data: -1, payload: -1, pub: {}, sub: {} };
      const jwt = signed(account, user, "replicator", claims, valid ? {} : { exp: 1_700_000_001 });
      return `-----BEGIN NATS USER JWT-----\n${jwt}\n------END NATS USER JWT------\n
-----BEGIN USER NKEY SEED-----\n${seedOf(user)}\n------END USER NKEY SEED------\n`;
    },
  };
}
