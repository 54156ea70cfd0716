/** Which table goes to which channel: append-only versions that cuts refer to (I13). */
import { DEFAULT_CHANNEL } from "../../../src/core/channel.ts";
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { ChannelLayout } from "../../../src/core/source_store.ts";
import { type Database, textArray } from "../connection.ts";
import { sqlState } from "../errors.ts";

/** Which rows of a cut belong to a channel. */
export interface Membership {
  /** `named`: the tables with these ids; `others`: all but these (the default channel). */
  readonly kind: "named" | "others";
  readonly tableIds: readonly string[];
  readonly partitions: number;
}

interface Placed {
  readonly name: string;
  readonly partitions: number;
  readonly tableIds: readonly string[];
}

const NEWEST = `
SELECT layout_version, channel, partitions, table_ids::text
FROM "replicator".layout
WHERE layout_version = (SELECT max(layout_version) FROM "replicator".layout)`;

// A name as SQL writes it: parse_ident folds case and takes quotes off; one part means schema public.
const TABLE_ID = `
SELECT t.table_id
FROM (SELECT parse_ident($1) AS parts) AS p
JOIN "replicator".replicated_table AS t
  ON t.table_name = p.parts[cardinality(p.parts)]
 AND t.schema_name = CASE WHEN cardinality(p.parts) > 1 THEN p.parts[1] ELSE 'public' END
WHERE cardinality(p.parts) <= 2 AND t.removed_at IS NULL`;

const ADD = `
INSERT INTO "replicator".layout (layout_version, channel, partitions, table_ids)
SELECT $1, c.channel, c.partitions, c.table_ids::int[]
FROM unnest($2::text[], $3::int[], $4::text[]) AS c(channel, partitions, table_ids)`;

/** Adds a version when `channels` differ from the newest; a channel that is not named there any more ends with it. */
export async function setLayout(db: Database, channels: readonly ChannelLayout[]): Promise<void> {
  const wanted = await Promise.all(channels.map((channel) => place(db, channel)));
  if (!wanted.some((channel) => channel.name === DEFAULT_CHANNEL)) {
    wanted.push({ name: DEFAULT_CHANNEL, partitions: 1, tableIds: [] });
  }
  for (;;) {
    const newest = await readNewest(db);
    if (digest(newest.channels) === digest(wanted)) return;
    const params = [
      String(newest.version + 1),
      textArray(wanted.map((channel) => channel.name)),
      textArray(wanted.map((channel) => channel.partitions)),
      textArray(wanted.map((channel) => `{${channel.tableIds.join(",")}}`)),
    ];
    try {
      await db.execute(db.ours(ADD), params, { action: "record the channel layout" });
      return;
    } catch (error) {
      // Another publisher added this version first: look whether it is the same.
      if (sqlState(error) !== "23505") throw error;
    }
  }
}

async function place(db: Database, channel: ChannelLayout): Promise<Placed> {
  const ids = await Promise.all(channel.tables.map((table) => tableId(db, table)));
  // The default channel takes what no other does: its tables are only looked up to refuse those that are missing.
  if (channel.name === DEFAULT_CHANNEL) return { name: channel.name, partitions: channel.partitions, tableIds: [] };
  return { name: channel.name, partitions: channel.partitions, tableIds: ids.sort((a, b) => Number(a) - Number(b)) };
}

async function tableId(db: Database, table: string): Promise<string> {
  const [row] = await db.query<{ table_id: string }>(db.ours(TABLE_ID), [table], { action: `look up table ${table}` });
  if (row) return row.table_id;
  throw new ReplicatorError({
    code: "source.table_unknown",
    message: `Cannot publish table ${table}: it is not under replication in ${db.label}`,
    retry: "never",
    fault: "environment",
    remedy: `Run: replicator tables add ${table}  (or take it out of critical_tables)`,
    facts: { table },
  });
}

async function readNewest(db: Database): Promise<{ version: number; channels: Placed[] }> {
  const rows = await db.query<{ layout_version: string; channel: string; partitions: string; table_ids: string }>(
    db.ours(NEWEST),
    [],
    { action: "read the channel layout" },
  );
  const channels = rows.map((row) => ({
    name: row.channel,
    partitions: Number(row.partitions),
    tableIds: intArray(row.table_ids),
  }));
  return { version: Number(rows[0]?.layout_version ?? 0), channels };
}

function digest(channels: readonly Placed[]): string {
  const line = (channel: Placed) => `${channel.name} ${channel.partitions} ${channel.tableIds.join(",")}`;
  return channels.map(line).sort().join("\n");
}

// A channel of an older version is done with when what it has confirmed reaches the last cut taken under such a version.
const DEPARTED = `
SELECT l.channel, max(l.partitions)::text AS partitions
FROM "replicator".layout AS l
WHERE NOT EXISTS (SELECT FROM "replicator".layout AS n
                  WHERE n.channel = l.channel AND n.layout_version = (SELECT max(layout_version) FROM "replicator".layout))
GROUP BY l.channel
HAVING (SELECT max(c.cut_no) FROM "replicator".cut AS c WHERE c.layout_version = ANY (array_agg(l.layout_version)))
     > coalesce((SELECT max(c.cut_no) FROM "replicator".confirmed AS c WHERE c.channel = l.channel), 0)
ORDER BY l.channel`;

/** Channels that are in no layout any more and not yet sent to their end. */
export async function departedChannels(
  db: Database,
): Promise<readonly { readonly name: string; readonly partitions: number }[]> {
  const rows = await db.query<{ channel: string; partitions: string }>(db.ours(DEPARTED), [], {
    action: "look for channels that left the layout",
  });
  return rows.map(({ channel, partitions }) => ({ name: channel, partitions: Number(partitions) }));
}

/** Answers membership by (layout version, channel); versions never change, so what was read once is kept. */
export class Memberships {
  readonly #db: Database;
  readonly #known = new Map<number, readonly Placed[]>();

  constructor(db: Database) {
    this.#db = db;
  }

  /** Null when the channel did not exist in that version: a cut holds nothing for it. */
  async of(layoutVersion: number, channel: string): Promise<Membership | null> {
    const placed = this.#known.get(layoutVersion) ?? (await this.#read(layoutVersion));
    const mine = placed.find((one) => one.name === channel);
    if (!mine) return null;
    if (channel !== DEFAULT_CHANNEL) return { kind: "named", tableIds: mine.tableIds, partitions: mine.partitions };
    const others = placed.filter((one) => one !== mine).flatMap((one) => one.tableIds);
    return { kind: "others", tableIds: others, partitions: mine.partitions };
  }

  async #read(layoutVersion: number): Promise<readonly Placed[]> {
    const text = `SELECT channel, partitions, table_ids::text FROM "replicator".layout WHERE layout_version = $1`;
    const rows = await this.#db.query<{ channel: string; partitions: string; table_ids: string }>(
      this.#db.ours(text),
      [layoutVersion],
      { action: "read the channel layout" },
    );
    const placed = rows.map((row) => ({
      name: row.channel,
      partitions: Number(row.partitions),
      tableIds: intArray(row.table_ids),
    }));
    this.#known.set(layoutVersion, placed);
    return placed;
  }
}

function intArray(text: string): string[] {
  const inner = text.slice(1, -1);
  return inner === "" ? [] : inner.split(",");
}
