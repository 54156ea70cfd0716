/** A polled table in a database of its own, and what a test of the poll asks of it. */
import { type Captured, captured, type Database } from "./database.ts";

let serial = 0;

export interface Polled {
  readonly name: string;
  readonly id: number;
  /** A whole run, begun if none is under way; returns how many changes it put into the queue. */
  run(batch?: number): Promise<number>;
  /** One batch; true when the run is finished. */
  batch(size: number): Promise<boolean>;
  begin(): Promise<void>;
  compare(): Promise<number>;
  queued(): Promise<readonly Captured[]>;
  /** Keys of the changes queued since the last call, `D` before those of deletions, sorted. */
  news(): Promise<string[]>;
}

export interface PolledOptions {
  readonly columns?: string;
  readonly rows?: string;
  /** More members of the setup options, with a comma before them. */
  readonly setup?: string;
  readonly overlap?: string;
  readonly key?: string;
}

/** Makes one and puts it under replication; it was never polled. */
export async function polledTable(db: Database, options: PolledOptions = {}): Promise<Polled> {
  const name = `polled_${++serial}`;
  const { key = "id", overlap = "0" } = options;
  await db.run(`CREATE TABLE ${name} (${options.columns ?? "id int PRIMARY KEY, v text"});
    ${options.rows ? `INSERT INTO ${name} ${options.rows};` : ""}
    SELECT setup_table_for_replication('${name}', '{"capture":"none"${options.setup ?? ""}}')`);
  const [row] = await db.sql`SELECT table_id FROM "replicator".replicated_table WHERE table_name = ${name}`;
  const id = Number(row?.table_id);
  let seen = 0;
  const begin = async () => {
    await db.sql`SELECT "replicator".sync_begin(${id}, ${overlap}::interval)`;
  };
  const batch = async (size: number) => {
    const [one] = await db.sql`SELECT phase FROM "replicator".sync_batch(${id}, ${size})`;
    return one?.phase === "done";
  };
  const queued = () => captured(db.sql, name);
  return {
    name,
    id,
    begin,
    batch,
    queued,
    async run(size = 1_000) {
      await begin();
      while (!(await batch(size)));
      const [last] =
        await db.sql`SELECT rows FROM "replicator".sync_run WHERE table_id = ${id} ORDER BY run_no DESC LIMIT 1`;
      return Number(last?.rows);
    },
    async compare() {
      const [one] = await db.sql`SELECT "replicator".sync_compare_keys(${id}, '0') AS gone`;
      return Number(one?.gone);
    },
    async news() {
      const all = await queued();
      const fresh = all.slice(seen);
      seen = all.length;
      return fresh
        .map(({ operation, row: line }) => (operation === "U" ? "" : `${operation} `) + String(line[key] ?? ""))
        .sort();
    },
  };
}
