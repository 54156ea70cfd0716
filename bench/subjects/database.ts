/** An application's database without a replicator: with capture, in one of its forms, or without. */
import postgres from "postgres";
import { Contour } from "../../tests/e2e/harness.ts";
import { idSource } from "../ids.ts";
import { holdTransaction } from "../old_transaction.ts";
import { startServer } from "../servers.ts";
import { DDL, TABLES } from "../tables.ts";
import type { AppDatabase } from "../types.ts";

/** @param capture `off`: nothing of ours is in the database */
export async function openDatabase(capture: "off" | "auto" | "row" | "statement"): Promise<AppDatabase> {
  const server = await startServer();
  const url = await server.createDatabase();
  const sql = postgres(url, { max: 4, onnotice: () => undefined });
  await sql.unsafe(DDL);
  if (capture !== "off") await setUp(url, capture);
  return {
    sql,
    url,
    freshIds: idSource(),
    holdTransaction: () => holdTransaction(url),
    close: async () => {
      await sql.end({ timeout: 2 });
      await server.close();
    },
  };
}

async function setUp(url: string, capture: string): Promise<void> {
  const tables = TABLES.map((name) => ({ name, capture }));
  // No replicator is started, so nobody connects to the broker.
  const broker = { broker: "nats", nats: { servers: ["nats://127.0.0.1:1"] } } as const;
  const contour = new Contour({ name: "bench", url, broker, from: [], tables });
  try {
    await contour.prepare();
  } finally {
    await contour.close();
  }
}
