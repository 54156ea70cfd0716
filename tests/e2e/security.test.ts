/** No superuser anywhere, and verified TLS to everything (architecture §9). */
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { makeCertificates } from "../servers/certificates.ts";
import { startKafka } from "../servers/kafka.ts";
import { startNats } from "../servers/nats.ts";
import { freshDatabase, sharedPostgres, startPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type BrokerConfig, Contour, runProgram, untilEqual } from "./harness.ts";
import { brokerConfig, openPair } from "./pair.ts";

const DDL = "CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);";

describeWith(["nats", "postgres", "psql"], "rights", () => {
  const closers: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });

  test("an owner, a publisher, a consumer and an application without superuser rights are enough", async () => {
    const server = await sharedPostgres();
    const urls = [await freshDatabase(server), await freshDatabase(server)] as const;
    const broker = await brokerConfig("nats");
    const id = Date.now().toString(36);
    const role = (name: string) => `${name}_${id}`;
    const as = (url: string, name: string) => {
      const address = new URL(url);
      address.username = role(name);
      address.password = "secret";
      return address.href;
    };
    const contours: Contour[] = [];
    for (const [n, url] of urls.entries()) {
      const admin = postgres(url, { max: 1, onnotice: () => undefined });
      closers.push(() => admin.end({ timeout: 1 }));
      if (n === 0) {
        for (const name of ["owner", "pub", "con", "app"])
          await admin.unsafe(`CREATE ROLE ${role(name)} LOGIN PASSWORD 'secret'`);
      }
      const database = new URL(url).pathname.slice(1);
      await admin.unsafe(
        `GRANT ALL ON DATABASE ${database} TO ${role("owner")}; GRANT ALL ON SCHEMA public TO ${role("owner")}`,
      );
      const names = ["a", "b"].map((name) => `${name}-${id}`);
      const settings = {
        name: names[n] as string,
        broker,
        from: [names[1 - n] as string],
        tables: [{ name: "users" }],
      };
      const owner = new Contour({ ...settings, url: as(url, "owner") });
      closers.push(() => owner.close());
      await owner.sql.unsafe(`${DDL} GRANT SELECT, INSERT, UPDATE, DELETE ON users TO ${role("app")}, ${role("con")}`);
      await owner.prepare();
      await admin.unsafe(await Bun.file(join(import.meta.dir, "../../sql/05_roles.sql")).text());
      await admin.unsafe(`GRANT replicator_publisher TO ${role("pub")}; GRANT replicator_consumer TO ${role("con")}`);
      const runner = new Contour({ ...settings, url: as(url, n === 0 ? "pub" : "con") });
      closers.push(() => runner.close());
      await runner.start(n === 0 ? "publisher" : "consumer");
      contours.push(owner);
    }
    const application = postgres(as(urls[0], "app"), { max: 1 });
    closers.push(() => application.end({ timeout: 1 }));
    await application`INSERT INTO users VALUES (1, 'by the application')`;
    await application`UPDATE users SET name = 'again'`;
    await untilEqual(contours, { users: "id" });
    expect((await (contours[1] as Contour).sql`SELECT name FROM users`)[0]?.name).toBe("again");
    // A stamp of the application's own making counts for nothing.
    await application`UPDATE users SET version = 1000, updated_at = 'infinity', updated_by = 'forged'`;
    const [source, target] = contours as [Contour, Contour];
    const [stamp] = await source.sql`SELECT version::int, updated_at < now() AS past, updated_by FROM users`;
    expect(stamp).toEqual({ version: 3, past: true, updated_by: source.name });
    // Nobody but the owner can put a change into the queue (review B7): the application sees nothing of ours at all.
    const forged = "INSERT INTO replicator.queue (table_id, operation, rows, data) VALUES (1, 'I', 1, '{}')";
    const forgers: Record<string, readonly string[]> = {
      app: [
        "SELECT * FROM replicator.queue",
        forged,
        "CREATE TEMP TABLE users (LIKE public.users); CREATE TRIGGER t AFTER INSERT ON pg_temp.users FOR EACH ROW EXECUTE FUNCTION replicator.capture_1()",
        "SELECT replicator.set_contour('forged')",
        "ALTER TABLE users DISABLE TRIGGER ALL",
        "TRUNCATE users",
      ],
      pub: [
        forged,
        "UPDATE replicator.queue SET data = '{}'",
        "UPDATE users SET name = 'forged'",
        "SET session_replication_role = replica",
      ],
      con: [
        forged,
        "UPDATE replicator.queue SET data = '{}'",
        "INSERT INTO replicator.confirmed SELECT * FROM replicator.confirmed",
        "CREATE TEMP TABLE users (LIKE public.users); CREATE TRIGGER t AFTER INSERT ON pg_temp.users FOR EACH ROW EXECUTE FUNCTION replicator.capture_1()",
      ],
    };
    for (const [name, attempts] of Object.entries(forgers)) {
      for (const attempt of attempts) {
        const session = postgres(as(urls[0], name), { max: 1, onnotice: () => undefined });
        closers.push(() => session.end({ timeout: 1 }));
        await expect(session.unsafe(attempt), `${name}: ${attempt}`).rejects.toThrow(/permission denied|must be owner/);
      }
    }
    // What the application hides from capture is noted for check to tell.
    await application`SELECT set_config('replicator.capture', 'off', false)`;
    await application`UPDATE users SET name = 'unseen'`;
    const { stdout } = await source.command("check", "--json", "--role", "publisher");
    expect(JSON.parse(stdout)).toContainEqual(
      expect.objectContaining({ code: "database.bypassed", message: expect.stringContaining(role("app")) }),
    );
    await application`SELECT set_config('replicator.capture', 'on', false)`;
    await application`INSERT INTO users VALUES (2, 'seen')`;
    await until(
      "the next change is there",
      async () => (await target.sql`SELECT FROM users WHERE id = 2`).length === 1,
    );
    expect((await target.sql`SELECT name FROM users WHERE id = 1`)[0]?.name).toBe("again");
  });
});

describeWith(["kafka", "nats", "postgres"], "TLS", () => {
  const closers: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });

  for (const kind of ["kafka", "nats"] as const) {
    test(`PostgreSQL verify-full and ${kind} with TLS and a user; a wrong certificate is refused`, async () => {
      const directory = mkdtempSync(join(tmpdir(), "replicator-tls-"));
      closers.push(async () => rmSync(directory, { recursive: true, force: true }));
      const good = await makeCertificates();
      const other = await makeCertificates();
      const file = (name: string, text: string) => {
        const path = join(directory, name);
        writeFileSync(path, text, { mode: 0o600 });
        return path;
      };
      const [ca, wrongCa] = [file("ca.pem", good.ca), file("wrong.pem", other.ca)];
      const tls = { ca: good.ca, cert: good.cert, key: good.key };
      let config: BrokerConfig;
      let wrong: BrokerConfig;
      if (kind === "kafka") {
        const kafka = await startKafka({ ssl: tls, sasl: { username: "replicator", password: "secret" } });
        closers.push(() => kafka.stop());
        const shared = {
          brokers: [kafka.bootstrap],
          sasl: { mechanism: "scram-sha-256", username: "replicator", password: "secret" },
          topic: { replication_factor: 1, min_insync_replicas: 1 },
        };
        config = { broker: "kafka", kafka: { ...shared, ssl: { ca } } };
        wrong = { broker: "kafka", kafka: { ...shared, ssl: { ca: wrongCa } } };
      } else {
        const nats = await startNats({ tls, user: "replicator", password: "secret" });
        closers.push(() => nats.stop());
        const shared = { servers: [nats.url], replicas: 1, user: "replicator", password: "secret" };
        config = { broker: "nats", nats: { ...shared, tls: { ca } } };
        wrong = { broker: "nats", nats: { ...shared, tls: { ca: wrongCa } } };
      }
      const server = await startPostgres({ ssl: tls });
      closers.push(() => server.stop());
      const verified = (url: string, root: string) =>
        `${url}?sslmode=verify-full&sslrootcert=${encodeURIComponent(root)}`;
      const databases = [await server.createDatabase(), await server.createDatabase()] as const;
      const configUrls = [verified(databases[0], ca), verified(databases[1], ca)] as const;
      const pair = await openPair({
        broker: config,
        ddl: DDL,
        tables: [{ name: "users" }],
        urls: databases,
        configUrls,
      });
      closers.push(() => pair.close());
      const { a, b } = pair;
      await Promise.all([a.start("publisher"), b.start("consumer")]);
      await a.sql`INSERT INTO users VALUES (1, 'encrypted')`;
      await untilEqual([a, b], { users: "id" });
      const attempt = async (url: string, broker: BrokerConfig) => {
        const contour = new Contour({
          name: a.name,
          url: databases[0],
          configUrl: url,
          broker,
          from: [b.name],
          tables: [{ name: "users" }],
        });
        closers.push(() => contour.close());
        return await runProgram(["run", "--role", "publisher", "--config", contour.configFile], { API_PORT: "0" });
      };
      for (const refused of [
        await attempt(verified(databases[0], wrongCa), config),
        await attempt(configUrls[0], wrong),
      ]) {
        expect(refused.code).toBe(3);
        expect(refused.stderr).toMatch(/certificate/i);
        expect(refused.stderr).not.toContain("secret");
        expect(refused.stderr).not.toContain("    at ");
      }
    });
  }
});
