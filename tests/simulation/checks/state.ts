/** Checks of what the databases hold, after every commit and at the end. */
import type { Database } from "../database/database.ts";
import { TABLES, type TableDefinition } from "../database/schema.ts";
import { ACCOUNT_KEYS, BALANCE } from "../workload/operations.ts";
import type { Check } from "./check.ts";

function committedRows(db: Database, table: TableDefinition) {
  return [...db.rows(table)].flatMap(([, { committed }]) => (committed ? [committed] : []));
}

/** The rows of some tables, stamps included, as text. */
export function fingerprint(db: Database, tables: readonly TableDefinition[]): string {
  return tables.map((table) => `${table.name}: ${committedRows(db, table).map(String).sort().join(", ")}`).join("\n");
}

export const equal: Check = {
  name: "equal",
  says: "When all has come to rest the contours hold the same rows with the same stamps (I6)",
  observe: ({ databases }, fail) => ({
    ended() {
      const [first, ...others] = databases;
      for (const other of others) {
        for (const table of TABLES) {
          if (!first) return;
          const [ours, theirs] = [fingerprint(first, [table]), fingerprint(other, [table])];
          if (ours !== theirs) fail(`${first.contour} and ${other.contour} differ\n  ${ours}\n  ${theirs}`);
        }
      }
    },
  }),
};

export const constraints: Check = {
  name: "constraints",
  says: "After every commit no child is without its parent and no unique value is there twice",
  observe: (_, fail) => ({
    committed(db) {
      for (const table of TABLES) {
        const { reference, unique } = table;
        if (!reference && unique.length === 0) continue;
        const values = new Set<string>();
        for (const row of committedRows(db, table)) {
          const parent = reference ? row.values[reference.column] : null;
          if (reference && parent && !db.row({ ...table, name: reference.parent }, parent).committed)
            fail(`At ${db.contour} ${table.name} ${row} has no parent`);
          for (const column of unique) {
            const value = row.values[column] ? `${column} ${row.values[column]}` : null;
            if (value && values.has(value))
              fail(`At ${db.contour} two rows of ${table.name} have ${value}: ${committedRows(db, table).join(", ")}`);
            if (value) values.add(value);
          }
        }
      }
    },
  }),
};

export const sum: Check = {
  name: "sum",
  says: "After every commit, at every contour, transfers have kept the sum (I12)",
  observe: (_, fail) => {
    const accounts = TABLES.filter(({ name }) => name === "accounts");
    return {
      committed(db) {
        for (const table of accounts) {
          const rows = committedRows(db, table);
          const total = rows.reduce((all, { values }) => all + Number(values.balance), 0);
          if (rows.length > 0 && total !== BALANCE * ACCOUNT_KEYS.length) fail(`At ${db.contour} the sum is ${total}`);
        }
      },
    };
  },
};

export const sourceState: Check = {
  name: "source state",
  says: "Without conflicts the target is, at the end of each cut, in a state the source had (I12)",
  observe: ({ profile, databases, parkedAt }, fail) => {
    const tables = TABLES.filter(({ topic }) => topic === null);
    const states = new Map<number, string>();
    if (!profile.oneWriter) return {};
    return {
      cutTaken(db, { cutNo }) {
        if (db === databases[0]) states.set(cutNo, fingerprint(db, tables));
      },
      applied({ contour, ledger, last }) {
        const db = databases.find((one) => one.contour === contour);
        if (!db || !last.endsCut || ledger.source !== databases[0]?.contour || last.kind !== "frames") return;
        if (parkedAt(contour) > 0) return;
        const [expected, found] = [states.get(last.cutNo), fingerprint(db, tables)];
        if (expected !== found) fail(`At ${contour} after cut ${last.cutNo}:\n${found}\nthe source had:\n${expected}`);
      },
    };
  },
};
