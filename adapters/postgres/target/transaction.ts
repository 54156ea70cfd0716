/**
 * One apply transaction (architecture §7): begin, groups, commit on a connection of its own. A small transaction takes two
 * round trips: everything up to the statements of its only group is sent without awaiting, commit() reads the answers,
 * then writes the ledger and commits.
 */
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { ApplyBatch, ApplyOutcome, ApplyTransaction } from "../../../src/core/target_store.ts";
import { type Connection, type Database, rollback } from "../connection.ts";
import type { Catalog } from "./catalog.ts";
import type { Executor, SessionMode, UnitOutcome } from "./execute.ts";
import { deferredConflict, rowFailure, throwable } from "./failures.ts";
import { Fragments } from "./fragments.ts";
import { type Parcel, type ParkContext, park } from "./inbox.ts";
import { type AppliedRecord, insertApplied, readPosition } from "./ledger.ts";
import { chunksOf, type GroupPlan, planGroup, type WholeChunk, wholeChunk } from "./plan.ts";
import { appliedRecord, type Entry } from "./record.ts";
import { retryInbox } from "./retry.ts";
import { secondTry } from "./second_try.ts";

/** Where a group begins; what its second try goes back to. */
export const GROUP_SAVEPOINT = "replicator_group";

export interface ApplyContext {
  readonly db: Database;
  /** Our schema's quoted name. */
  readonly schema: string;
  readonly executor: Executor;
  readonly mode: SessionMode;
  readonly ledgerId: number;
  readonly source: string;
  readonly channel: string;
  readonly partition: number;
  readonly catalog: Catalog;
  readonly reloadCatalog: () => Promise<Catalog>;
  /** Constraints are checked after every group, not only at commit: what was deferred cannot be told apart there. */
  readonly careful: boolean;
  /** Called when the transaction must be applied again, carefully. */
  readonly askForCare: () => void;
  /** Called once, with the position committed. */
  readonly onCommitted: (sequence: number) => void;
}

interface Group {
  readonly batches: readonly ApplyBatch[];
  readonly chunks: readonly WholeChunk[];
  readonly plan: GroupPlan;
  readonly work: Promise<UnitOutcome[]>;
}

export class PostgresApply implements ApplyTransaction {
  readonly #context: ApplyContext;
  readonly #connection: Connection;
  readonly #begun: Promise<void>;
  readonly #fragments: Fragments;
  #catalog: Catalog;
  #group: Group | null = null;
  #groups = 0;
  #last: ApplyBatch | null = null;
  #write: Promise<unknown> = Promise.resolve();
  /** Groups with parked rows: written at commit, when it is known which of them stay parked. */
  readonly #undecided: { readonly entries: readonly Entry[]; readonly last: ApplyBatch }[] = [];
  readonly #parked: string[] = [];
  readonly #totals = { changes: 0, beaten: 0 };
  #ended = false;

  /** `begun`: BEGIN and the fence, sent and not awaited. */
  constructor(context: ApplyContext, connection: Connection, begun: Promise<void>) {
    this.#context = context;
    this.#connection = connection;
    this.#begun = begun;
    this.#catalog = context.catalog;
    this.#fragments = new Fragments(connection, context.schema, context.ledgerId);
    // Whoever awaits it first gets the error; a transaction given up at once awaits nothing.
    begun.catch(() => undefined);
  }

  async apply(batches: readonly ApplyBatch[]): Promise<void> {
    this.#assertOpen();
    // I11: at most one group is under way while the next one is being read.
    await this.#settle(false);
    const last = batches.at(-1);
    if (!last) return;
    this.#last = last;
    const chunks = await this.#collect(batches);
    let plan = planGroup(chunks, this.#catalog, this.#order());
    // A table or column may be there by now: look again before parking for want of it.
    if (plan.refused.length > 0) plan = await this.#replan(chunks);
    // The first savepoint stands since BEGIN. Pieces of large rows must survive a second try, so they come before it.
    const mark = `RELEASE SAVEPOINT ${GROUP_SAVEPOINT}; SAVEPOINT ${GROUP_SAVEPOINT}`;
    const marked = this.#groups++ > 0 || this.#fragments.used ? this.#connection.script(mark) : Promise.resolve();
    const work = Promise.all([
      marked,
      this.#context.executor.setWise(this.#connection, plan.units, this.#context.mode),
    ]);
    this.#group = { batches, chunks, plan, work: work.then(([, outcomes]) => outcomes) };
    this.#group.work.catch(() => undefined);
  }

  async commit(): Promise<ApplyOutcome> {
    this.#assertOpen();
    await this.#settle(true);
    const last = this.#last;
    if (!last) throw internal("Cannot commit an apply transaction that has applied nothing");
    if (this.#fragments.incomplete) throw internal("Cannot commit in the middle of a row that arrives in pieces");
    const stillParked = await this.#retryParked();
    const writes = this.#undecided.map(({ entries, last }) => this.#record(appliedRecord(entries, last, stillParked)));
    const outcome = {
      changes: this.#totals.changes,
      applied: this.#totals.changes - this.#totals.beaten - stillParked.size,
      beaten: this.#totals.beaten,
      parked: stillParked.size,
    };
    await this.#commitNow(Promise.all([this.#write, ...writes, this.#fragments.clear()]), last);
    this.#context.onCommitted(last.sequence);
    return outcome;
  }

  async rollback(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await rollback(this.#connection);
    this.#connection.release();
  }

  /** Waits for the group under way; what its rows refuse goes to the second try, what stays refused to the inbox (I5). */
  async #settle(final: boolean): Promise<void> {
    const group = this.#group;
    this.#group = null;
    if (!group) return;
    await this.#begun;
    // Sent before this group: its failure, if any, is the cause of the group's.
    await this.#write;
    let plan = group.plan;
    let outcomes: readonly UnitOutcome[];
    try {
      outcomes = await group.work;
      if (this.#defers && (final || this.#context.careful)) await this.#checkDeferred();
    } catch (error) {
      if (rowFailure(error) === null) throw throwable(error);
      const tried = await secondTry(this.#connection, error, plan, this.#context, () => this.#replan(group.chunks));
      plan = tried.plan;
      outcomes = tried.outcomes;
    }
    await this.#keep(group, plan, outcomes);
  }

  async #keep(group: Group, plan: GroupPlan, outcomes: readonly UnitOutcome[]): Promise<void> {
    const entries: Entry[] = [];
    for (const { unit, versions, lost, failed } of outcomes) {
      const { pieces, rows, source } = unit;
      const parked = failed.length > 0 ? await this.#park({ pieces, source, failed }) : [];
      entries.push({ pieces, rows, versions, lost, parked });
      this.#totals.beaten += lost.length;
    }
    for (const { pieces, rows, source, code, message } of plan.refused) {
      const parked = await this.#park({ pieces, source, failed: { code, message } });
      entries.push({ pieces, rows, versions: null, lost: [], parked });
    }
    this.#totals.changes += entries.reduce((sum, entry) => sum + entry.rows, 0);
    const last = group.batches.at(-1) as ApplyBatch;
    if (entries.some((entry) => entry.parked.length > 0)) this.#undecided.push({ entries, last });
    else this.#write = Promise.all([this.#write, this.#record(appliedRecord(entries, last, new Set()))]);
    this.#write.catch(() => undefined);
  }

  async #replan(chunks: readonly WholeChunk[]): Promise<GroupPlan> {
    this.#catalog = await this.#context.reloadCatalog();
    return planGroup(chunks, this.#catalog, this.#order());
  }

  #record(record: AppliedRecord): Promise<number> {
    const { db, ledgerId } = this.#context;
    return insertApplied(this.#connection, (text) => db.ours(text), ledgerId, record);
  }

  async #park(parcel: Parcel): Promise<readonly { id: string; n: number }[]> {
    const { schema, source, channel, partition } = this.#context;
    const context: ParkContext = { connection: this.#connection, schema, source, channel, partition };
    const rows = await park(context, parcel);
    this.#parked.push(...rows.map((row) => row.id));
    return rows;
  }

  async #retryParked(): Promise<ReadonlySet<string>> {
    if (this.#parked.length === 0) return new Set();
    if (this.#defers) await this.#connection.script("SET CONSTRAINTS ALL IMMEDIATE");
    const { schema, executor, mode } = this.#context;
    const context = { connection: this.#connection, schema, executor, mode, catalog: this.#catalog };
    try {
      return await retryInbox(context, this.#parked, false);
    } catch (error) {
      throw throwable(error);
    }
  }

  /** Chunks whose rows are complete; pieces of large rows are stored until the last one is in. */
  async #collect(batches: readonly ApplyBatch[]): Promise<readonly WholeChunk[]> {
    const chunks: WholeChunk[] = [];
    for (const batch of batches) {
      for (const chunk of chunksOf(batch, this.#catalog)) {
        const whole = chunk.fragment ? await this.#fragments.addChunk(chunk, batch) : wholeChunk(chunk, batch);
        if (whole) chunks.push(whole);
      }
      for (const event of batch.events.filter((event) => event.fragment)) {
        const whole = await this.#fragments.addEvent(event, batch, this.#catalog);
        if (whole) chunks.push(whole);
      }
    }
    return chunks;
  }

  get #defers(): boolean {
    return this.#context.mode === "origin" && this.#context.catalog.deferrable;
  }

  #order() {
    return this.#context.mode === "replica" ? ("deletes-first" as const) : ("upserts-first" as const);
  }

  async #checkDeferred(): Promise<void> {
    try {
      await this.#connection.script("SET CONSTRAINTS ALL IMMEDIATE");
      if (!this.#context.careful) return;
      await this.#connection.script("SET CONSTRAINTS ALL DEFERRED");
    } catch (error) {
      if (rowFailure(error) === null || this.#groups === 1 || this.#context.careful) throw error;
      this.#context.askForCare();
      throw deferredConflict(error);
    }
  }

  /** I4: the answer of COMMIT decides; when it is lost, the ledger does. */
  async #commitNow(writes: Promise<unknown>, last: ApplyBatch): Promise<void> {
    const commit = this.#connection.script("COMMIT", { action: "commit applied changes" });
    const [written, committed] = await Promise.allSettled([writes, commit]);
    this.#ended = true;
    if (written.status === "fulfilled" && committed.status === "fulfilled") {
      this.#connection.release();
      return;
    }
    const broken = this.#connection.broken;
    const reason: unknown =
      written.status === "rejected" ? written.reason : (committed as PromiseRejectedResult).reason;
    // A statement that failed in the pipeline has turned COMMIT into ROLLBACK: nothing is unknown then.
    if (!broken) {
      await rollback(this.#connection);
      this.#connection.release();
      if (rowFailure(reason) === null || this.#context.careful) throw throwable(reason);
      this.#context.askForCare();
      throw deferredConflict(reason);
    }
    this.#connection.destroy();
    if (!(await this.#isCommitted(last))) throw reason;
  }

  async #isCommitted(last: ApplyBatch): Promise<boolean> {
    const { db, ledgerId } = this.#context;
    return db.transaction(async (connection) => {
      // Waits until the lost transaction has ended, one way or the other.
      await connection.query(db.ours(`SELECT FROM "replicator".ledger WHERE ledger_id = $1::int FOR UPDATE`), [
        ledgerId,
      ]);
      const found = await readPosition(connection, (text) => db.ours(text), ledgerId);
      return found?.epoch === last.epoch && found.sequence === last.sequence;
    });
  }

  #assertOpen(): void {
    if (this.#ended) throw internal("The apply transaction has ended");
  }
}

function internal(message: string): ReplicatorError {
  return new ReplicatorError({ code: "apply.misused", message, retry: "never", fault: "internal" });
}
