/** The real servers that other tests stand on: started, stopped in every way, and gone afterwards. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { connect } from "@nats-io/transport-node";
import { Kafka, logLevel } from "kafkajs";
import postgres from "postgres";
import { makeCertificates } from "../servers/certificates.ts";
import { startKafka } from "../servers/kafka.ts";
import { startNats } from "../servers/nats.ts";
import { MAJORS, startPostgres } from "../servers/postgres.ts";
import { describeWith } from "../support/needs.ts";

const quiet = { max: 1, onnotice: () => {} };

for (const major of MAJORS) {
  describeWith(`postgres:${major}`, `PostgreSQL ${major}`, () => {
    test(`PostgreSQL ${major} keeps its data and port over a fast stop, a crash and a kill`, async () => {
      const server = await startPostgres({ major, settings: { work_mem: "5MB" } });
      try {
        const url = await server.createDatabase();
        const query = async (text: string) => {
          const sql = postgres(url, quiet);
          try {
            return await sql.unsafe(text);
          } finally {
            await sql.end();
          }
        };
        await query("CREATE TABLE kept (n int)");
        for (const mode of ["fast", "immediate", "kill"] as const) {
          await query("INSERT INTO kept VALUES (1)");
          await server.stop(mode);
          await expect(query("SELECT 1")).rejects.toThrow();
          await server.start();
        }
        const [row] = await query(
          `SELECT count(*)::int AS n, current_setting('server_version_num')::int / 10000 AS major, current_setting('work_mem') AS memory,
            current_setting('fsync') AS fsync FROM kept`,
        );
        expect({ ...row }).toEqual({ n: 3, major, memory: "5MB", fsync: "on" });
      } finally {
        await server.close();
      }
      expect(existsSync(server.dataDir)).toBe(false);
    });
  });
}

describeWith(["postgres", "openssl"], "PostgreSQL with TLS", () => {
  test("PostgreSQL is verified against the authority that issued its certificate and no other", async () => {
    const [own, other] = [await makeCertificates(), await makeCertificates()];
    const server = await startPostgres({ ssl: own, hba: ["hostnossl all all all reject"] });
    const ask = async (ssl?: { ca: string }) => {
      const sql = postgres(server.url(), { ...quiet, ...(ssl ? { ssl } : {}) });
      try {
        return (await sql`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`)[0];
      } finally {
        await sql.end();
      }
    };
    try {
      expect(await ask({ ca: own.ca })).toEqual({ ssl: true });
      await expect(ask({ ca: other.ca })).rejects.toThrow();
      await expect(ask()).rejects.toThrow();
    } finally {
      await server.close();
    }
  });
});

describeWith(["nats", "openssl"], "nats-server", () => {
  test("nats-server asks for TLS and its user, and comes back after a kill on the same port", async () => {
    const certificates = await makeCertificates();
    const server = await startNats({ tls: { ...certificates, verify: true }, user: "u", password: "p" });
    const { cert, key } = certificates.client;
    const login = (pass: string) =>
      connect({ servers: server.url, user: "u", pass, tls: { ca: certificates.ca, cert, key }, reconnect: false });
    try {
      await expect(login("wrong")).rejects.toThrow();
      await server.kill();
      await server.start();
      const connection = await login("p");
      expect(connection.info?.jetstream).toBe(true);
      await connection.close();
    } finally {
      await server.close();
    }
  });
});

describeWith(["kafka", "openssl"], "Kafka", () => {
  test("Kafka asks for TLS and its SCRAM user, and keeps its topics over a kill", async () => {
    const certificates = await makeCertificates();
    const server = await startKafka({ ssl: certificates, sasl: { username: "u", password: "p" } });
    const topics = async (password: string, create: boolean) => {
      const kafka = new Kafka({
        brokers: [server.bootstrap],
        logLevel: logLevel.NOTHING,
        ssl: { ca: [certificates.ca] },
        sasl: { mechanism: "scram-sha-256", username: "u", password },
        retry: { retries: 1 },
      });
      const admin = kafka.admin();
      try {
        await admin.connect();
        if (create) await admin.createTopics({ topics: [{ topic: "kept" }], waitForLeaders: true });
        return await admin.listTopics();
      } finally {
        await admin.disconnect();
      }
    };
    try {
      await expect(topics("wrong", false)).rejects.toThrow();
      expect(await topics("p", true)).toEqual(["kept"]);
      await server.kill();
      await server.start();
      expect(await topics("p", false)).toEqual(["kept"]);
    } finally {
      await server.close();
    }
  });
});

describeWith("nats", "servers", () => {
  test("a server that is stopped twice and closed twice is stopped and closed", async () => {
    const server = await startNats();
    await server.stop();
    await server.stop();
    await server.close();
    await server.close();
  });
});
