/** The tables of all workloads. */

/** A row of `bench` as the workloads write it takes about 160 bytes in the table. */
export const DDL = `
CREATE TABLE bench (id bigint PRIMARY KEY, v text NOT NULL, n numeric NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE bench_backlog (id bigint PRIMARY KEY, v text NOT NULL, n numeric NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE bench_accounts (id bigint PRIMARY KEY, balance bigint NOT NULL, filler text NOT NULL);
CREATE TABLE bench_history (id bigint PRIMARY KEY, account bigint NOT NULL, delta bigint NOT NULL,
                            at timestamptz NOT NULL DEFAULT now());`;

export const TABLES = ["bench", "bench_backlog", "bench_accounts", "bench_history"] as const;

/** One statement that inserts ids `first` to `first + rows - 1`. */
export function insertRows(table: "bench" | "bench_backlog", first: number, rows: number): string {
  return `INSERT INTO ${table} (id, v, n) SELECT g, repeat('x', 100) || g, g / 7.0
            FROM generate_series(${first}::bigint, ${first + rows - 1}::bigint) g`;
}
