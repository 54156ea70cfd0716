/** Who wants a table polled: its timer, SIGHUP, POST /sync/{table}. Made before the stores are open, so that none is missed. */
import { sameTable } from "../core/table_name.ts";
import { Wake } from "../core/wake.ts";

/** `started`: a run begins now. `queued`: one is under way, another follows it; that one sees all that is committed by now. */
export type RequestOutcome = "started" | "queued";

/** The wish for a run of one table. Wishes that come while one is waiting are one. */
export class SyncRequest {
  readonly table: string;
  readonly #wake = new Wake();
  #running = false;
  #wanted = false;

  constructor(table: string) {
    this.table = table;
  }

  ask(): RequestOutcome {
    this.#wanted = true;
    this.#wake.ring();
    return this.#running ? "queued" : "started";
  }

  /** Runs `work` once somebody has asked; a run that fails stays wanted. Returns without it when the signal aborts first. */
  async serve(work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    while (!this.#wanted && !signal.aborted) await this.#wake.wait(60_000, signal);
    if (signal.aborted) return;
    this.#wanted = false;
    this.#running = true;
    try {
      await work();
    } catch (error) {
      this.#wanted = true;
      throw error;
    } finally {
      this.#running = false;
    }
  }
}

/** Of the tables this process polls. */
export class SyncRequests {
  readonly all: readonly SyncRequest[];

  constructor(tables: readonly string[]) {
    this.all = tables.map((table) => new SyncRequest(table));
  }

  get tables(): readonly string[] {
    return this.all.map(({ table }) => table);
  }

  /** Null when this process does not poll the table. @param table as SQL writes it */
  ask(table: string): { readonly table: string; readonly outcome: RequestOutcome } | null {
    const known = this.all.find((one) => sameTable(one.table, table));
    return known ? { table: known.table, outcome: known.ask() } : null;
  }

  askAll(): void {
    for (const one of this.all) one.ask();
  }
}
