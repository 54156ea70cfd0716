/** Writers of several contours that get into each other's way: hot keys, unique values, parents and children. */
import type { Sql } from "postgres";

/**
 * `written` counts the rows an application changed: the trigger is silent while a change is applied in replica mode, so
 * what is captured beyond it are the overrides of the replicator.
 */
export const SHOP = `
CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE, note text);
CREATE TABLE payments (id bigint PRIMARY KEY, user_id int NOT NULL REFERENCES users, amount int);
CREATE TABLE items (id bigint PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE, v int);
CREATE TABLE written (n bigserial PRIMARY KEY, what text);
CREATE FUNCTION note_written() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO written (what) VALUES (TG_OP || ' ' || TG_TABLE_NAME || ' ' || coalesce(NEW.id, OLD.id)); RETURN NULL; END $$;
CREATE TRIGGER note_written AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION note_written();
CREATE TRIGGER note_written AFTER INSERT OR UPDATE OR DELETE ON payments FOR EACH ROW EXECUTE FUNCTION note_written();
CREATE TRIGGER note_written AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION note_written();
`;

export const SHOP_TABLES = { users: "id", payments: "id", items: "id" };

const HOT_KEYS = 200;
const EMAILS = 150;

/** Mulberry32: small, seeded, the same everywhere. */
export function random(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export interface Writer {
  committed(): number;
  stop(): Promise<void>;
}

/**
 * Small transactions without a pause until stopped. `slot` of `slots`: whose keys of payments and items are ours, as an
 * application with sequences set apart has them.
 */
export function startWriter(sql: Sql, seed: number, slot: number, slots: number): Writer {
  const next = random(seed);
  const pick = (limit: number) => Math.floor(next() * limit) + 1;
  let serial = 0;
  let committed = 0;
  let stopped = false;
  const statement = (): string => {
    const user = pick(HOT_KEYS);
    const email = `e${pick(EMAILS)}@x`;
    const own = ++serial * slots + slot;
    const choice = next();
    if (choice < 0.25)
      return `INSERT INTO users (id, email, note) VALUES (${user}, '${email}', 's${seed}') ON CONFLICT (id) DO UPDATE SET note = excluded.note || ${serial}`;
    if (choice < 0.4) return `UPDATE users SET note = 'n${serial}' WHERE id = ${user}`;
    if (choice < 0.45) return `UPDATE users SET email = '${email}' WHERE id = ${user}`;
    if (choice < 0.55)
      return `DELETE FROM payments WHERE user_id = ${user}; DELETE FROM users WHERE id = ${user}; INSERT INTO users (id, note) VALUES (${user}, 'again')`;
    if (choice < 0.7) return `DELETE FROM payments WHERE user_id = ${user}; DELETE FROM users WHERE id = ${user}`;
    if (choice < 0.85)
      return `INSERT INTO payments (id, user_id, amount) SELECT ${own}, id, ${serial} FROM users WHERE id = ${user}`;
    if (choice < 0.95)
      return `INSERT INTO items (id, user_id, v) SELECT ${own}, id, ${serial} FROM users WHERE id = ${user}`;
    return `DELETE FROM items WHERE user_id = ${user}`;
  };
  const run = async () => {
    while (!stopped) {
      try {
        await sql.unsafe(statement()).simple();
        committed++;
      } catch (error) {
        // Unique and foreign keys refuse now and then, deadlocks with apply happen: an application's everyday.
        if ((error as { code?: unknown }).code === "CONNECTION_ENDED") return;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  };
  const running = run();
  return {
    committed: () => committed,
    stop: async () => {
      stopped = true;
      await running;
    },
  };
}
