/**
 * One apply transaction (architecture §7): begin, groups, commit on a connection of its own. A small transaction takes two
 * round trips: everything up to the statements of its only group is sent without awaiting, commit() reads the answers,
 * then writes the ledger and commits.
 */
import { ReplicatorError } from "../../../src/core/errors.ts";
import type { ApplyBatch, ApplyOutcome, ApplyTransaction } from "../../../src/core/target_store.ts";
import { type Connection, rollback } from "../connection.ts";
import type { ApplyContext } from "./apply_context.ts";
import type { Catalog } from "./catalog/catalog.ts";
import { commitApply } from "./commit_apply.ts";
import { ConflictTally } from "./conflicts/conflict_tally.ts";
import { applyContested, isConflictFound } from "./conflicts/contested_group.ts";
import { insertApplied } from "./ledger.ts";
import { type Ahead, aheadTotals, isOf, joined, notAhead, writeAhead } from "./parking/ahead.ts";
import type { TableNamed } from "./parking/catalog_digest.ts";
import { applyBefore, type Halt } from "./parking/halt.ts";
import { type Parcel, type ParkContext, park } from "./parking/inbox.ts";
import { wholeChunks } from "./rows/collect.ts";
import type { UnitOutcome } from "./rows/execute.ts";
import { deferredConflict, dependsOnOrder, rowFailure, throwable } from "./rows/failures.ts";
import { Fragments } from "./rows/fragments.ts";
import { type GroupPlan, planGroup, type WholeChunk } from "./rows/plan.ts";
import { appliedRecord, type Entry } from "./rows/record.ts";
import { type Retried, retryInbox } from "./rows/retry.ts";
import { secondTry } from "./rows/second_try.ts";

/** Where a group begins; what its second try goes back to. */
export const GROUP_SAVEPOINT = "replicator_group";
/**
 * The locks of a consumer that vanished without a word go when its backend has waited so long for the next statement (I8).
 * A transaction in several groups is one that is applied while it arrives, and waits for the broker as well.
 */
export const IDLE_AFTER_BEGIN = "SET LOCAL idle_in_transaction_session_timeout = '5s'";
const IDLE_WHILE_ARRIVING = "SET LOCAL idle_in_transaction_session_timeout = '60s'";

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
  readonly #undecided: { readonly entries: readonly Entry[]; readonly batches: readonly ApplyBatch[] }[] = [];
  /** Of the message that begins this transaction: what was applied of it before. */
  #ahead: Ahead | null = null;
  /** Of chunks applied ahead of their message's position now. */
  #before: readonly Entry[] = [];
  /** In the inbox: what came later may have cleared the way of these, not of those. */
  #refused: string[] = [];
  #hopeless: string[] = [];
  /** Chunks of the only batch of this transaction: it may be cut before a source transaction that halts the channel. */
  #only: readonly WholeChunk[] = [];
  readonly #totals = { changes: 0, beaten: 0 };
  #conflicts = new ConflictTally();
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
    const { ahead } = this.#context;
    if (batches.some((batch) => isOf(ahead, batch))) this.#ahead = ahead;
    const chunks = notAhead(this.#ahead, await wholeChunks(batches, this.#catalog, this.#fragments));
    this.#only = this.#groups === 0 && batches.length === 1 ? chunks : [];
    let plan = planGroup(chunks, this.#catalog, this.#order());
    // A table or column may be there by now: look again before parking for want of it.
    const refusing = plan.refused.flatMap(({ pieces }) => pieces.map(({ header }) => header));
    if (refusing.length > 0) plan = await this.#replan(chunks, refusing);
    // The first savepoint stands since BEGIN. Pieces of large rows must survive a second try, so they come before it.
    const mark = `RELEASE SAVEPOINT ${GROUP_SAVEPOINT}; ${IDLE_WHILE_ARRIVING}; SAVEPOINT ${GROUP_SAVEPOINT}`;
    const marked = this.#groups++ > 0 || this.#fragments.used ? this.#connection.script(mark) : Promise.resolve();
    const work = Promise.all([marked, this.#send(plan)]);
    this.#group = { batches, chunks, plan, work: work.then(([, outcomes]) => outcomes) };
    this.#group.work.catch(() => undefined);
  }

  async commit(): Promise<ApplyOutcome> {
    this.#assertOpen();
    await this.#settle(true);
    const last = this.#last;
    if (!last) throw internal("Cannot commit an apply transaction that has applied nothing");
    if (this.#fragments.incomplete) throw internal("Cannot commit in the middle of a row that arrives in pieces");
    const retried = await this.#retryParked(last);
    const parked = await this.#context.weigh(this.#connection, [...retried.pending]);
    if (parked.halt) return this.#stopBefore(parked.halt, last);
    const writes = this.#undecided.map(({ entries, batches }) => this.#record(entries, batches, retried));
    const ahead = aheadTotals(this.#ahead);
    if (this.#context.ahead) writes.push(this.#writeAhead(null));
    const undecided = this.#undecided.flatMap(({ entries }) => entries);
    const conflicts = this.#conflicts.close(this.#connection, this.#context, undecided, retried);
    const outcome = {
      changes: this.#totals.changes + ahead.changes,
      beaten: this.#totals.beaten + ahead.beaten,
      overridden: retried.overridden.size + ahead.overridden,
      parked: retried.pending.size + ahead.parked,
    };
    const applied = outcome.changes - outcome.beaten - outcome.overridden - outcome.parked;
    const sent = Promise.all([this.#write, ...writes, this.#fragments.clear(), conflicts]);
    this.#ended = true;
    await commitApply(this.#connection, sent, last, this.#context);
    this.#context.onCommitted(last.sequence);
    this.#context.onParked(parked);
    // A commit whose answer was lost has lost that answer too.
    return { ...outcome, applied, ...(await conflicts.catch(() => ({}))) };
  }

  /** Commits the whole transactions before the one that halts, ahead of their message's position. */
  async #stopBefore(halt: Halt, last: ApplyBatch): Promise<never> {
    const done = await applyBefore(halt, this.#only, async (chunks) => {
      await this.#connection.script(`ROLLBACK TO SAVEPOINT ${GROUP_SAVEPOINT}`);
      this.#undecided.length = 0;
      this.#refused = [];
      this.#hopeless = [];
      this.#conflicts = new ConflictTally();
      this.#write = Promise.resolve();
      const plan = planGroup(chunks, this.#catalog, this.#order());
      const work = this.#send(plan);
      work.catch(() => undefined);
      this.#group = { batches: [], chunks, plan, work };
      await this.#settle(true);
      const retried = await this.#retryParked({ ...last, endsCut: false });
      const weighed = await this.#context.weigh(this.#connection, [...retried.pending]);
      return { ...weighed, chunks: chunks.length, retried };
    });
    if (done) {
      const earlier = this.#ahead;
      const record = appliedRecord(this.#before, last, done.retried);
      const ahead = {
        epoch: last.epoch,
        sequence: last.sequence,
        chunks: (earlier?.chunks ?? 0) + done.chunks,
        record: earlier ? joined(earlier.record, record) : record,
      };
      const conflicts = this.#conflicts.close(this.#connection, this.#context, this.#before, done.retried);
      await Promise.all([this.#writeAhead(ahead), this.#fragments.clear(), conflicts]);
      await this.#connection.script("COMMIT", { action: "commit what comes before a change that stops the channel" });
      this.#ended = true;
      this.#connection.release();
      this.#context.onParked(done);
      this.#context.onAhead(ahead);
    }
    throw halt.error;
  }

  abandon(): void {
    this.#connection.destroy();
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
      outcomes = await this.#outcomes(group);
      if (this.#defers && (final || this.#context.careful)) await this.#checkDeferred();
    } catch (error) {
      if (rowFailure(error) === null) throw throwable(error);
      const tried = await secondTry(this.#connection, error, plan, this.#context, () => this.#replan(group.chunks));
      plan = tried.plan;
      outcomes = tried.outcomes;
    }
    await this.#keep(group, plan, outcomes);
  }

  #send({ units }: GroupPlan): Promise<UnitOutcome[]> {
    const { executor, mode, source } = this.#context;
    return executor.setWise(this.#connection, units, mode, { source, conflicts: "watch" });
  }

  async #outcomes({ work, plan: { units } }: Group): Promise<readonly UnitOutcome[]> {
    try {
      return await work;
    } catch (error) {
      if (!isConflictFound(error)) throw error;
      const { executor, mode, source } = this.#context;
      const undo = `ROLLBACK TO SAVEPOINT ${GROUP_SAVEPOINT}`;
      return applyContested(this.#connection, { units, executor, mode, source, undo });
    }
  }

  async #keep(group: Group, plan: GroupPlan, outcomes: readonly UnitOutcome[]): Promise<void> {
    const entries: Entry[] = [];
    for (const outcome of outcomes) {
      const { unit, versions, lost, failed } = outcome;
      const { pieces, rows, source } = unit;
      this.#conflicts.add(outcome);
      const parked = failed.length > 0 ? await this.#park({ pieces, source, failed }) : [];
      entries.push({ pieces, rows, versions, lost, parked });
      this.#totals.beaten += lost.length;
    }
    for (const { pieces, rows, source, code, message } of plan.refused) {
      const parked = await this.#park({ pieces, source, failed: { code, message } });
      entries.push({ pieces, rows, versions: null, lost: [], parked });
    }
    this.#totals.changes += entries.reduce((sum, entry) => sum + entry.rows, 0);
    const { batches } = group;
    if (batches.length === 0) this.#before = entries;
    else if (entries.some((entry) => entry.parked.length > 0)) this.#undecided.push({ entries, batches });
    else this.#write = Promise.all([this.#write, this.#record(entries, batches, null)]);
    this.#write.catch(() => undefined);
  }

  async #replan(chunks: readonly WholeChunk[], refusing?: readonly TableNamed[]): Promise<GroupPlan> {
    this.#catalog = await this.#context.reloadCatalog(refusing);
    return planGroup(chunks, this.#catalog, this.#order());
  }

  #record(entries: readonly Entry[], batches: readonly ApplyBatch[], retried: Retried | null): Promise<number> {
    const { db, ledgerId } = this.#context;
    const ahead = this.#ahead;
    const record = appliedRecord(entries, batches.at(-1) as ApplyBatch, retried);
    const whole = ahead && batches.some((batch) => isOf(ahead, batch)) ? joined(ahead.record, record) : record;
    return insertApplied(this.#connection, (text) => db.ours(text), ledgerId, whole);
  }

  #writeAhead(ahead: Ahead | null): Promise<number> {
    const { db, ledgerId } = this.#context;
    return writeAhead(this.#connection, (text) => db.ours(text), ledgerId, ahead);
  }

  async #park(parcel: Parcel): Promise<Entry["parked"]> {
    const { schema, source, channel, partition, digestOf } = this.#context;
    const context: ParkContext = { connection: this.#connection, schema, source, channel, partition, digestOf };
    const rows = await park(context, parcel);
    for (const { id, state } of rows) (dependsOnOrder(state) ? this.#refused : this.#hopeless).push(id);
    // I11: what the end of a large transaction would not accept need not be carried there.
    if (this.#only.length === 0 && this.#hopeless.length > this.#context.room().entries) {
      const { halt } = await this.#context.weigh(this.#connection, this.#hopeless);
      if (halt) throw halt.error;
    }
    return rows;
  }

  async #retryParked(last: ApplyBatch): Promise<Retried> {
    if (this.#refused.length > 0 && this.#defers) await this.#connection.script("SET CONSTRAINTS ALL IMMEDIATE");
    const { schema, executor, mode, leavesUnique, ledgerId } = this.#context;
    const { epoch, cutNo, endsCut } = last;
    // What this commit completes: whole cuts, of which nothing can come any more that clears the way (law 3).
    const completes = { ledgerId, epoch, cutNo: endsCut ? cutNo : cutNo - 1 };
    const shared = { connection: this.#connection, schema, executor, mode, catalog: this.#catalog };
    const context = { ...shared, completes, leavesUnique };
    try {
      const retried = await retryInbox(context, this.#refused, null);
      return { ...retried, pending: new Set([...this.#hopeless, ...retried.pending]) };
    } catch (error) {
      throw throwable(error);
    }
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

  #assertOpen(): void {
    if (this.#ended) throw internal("The apply transaction has ended");
  }
}

function internal(message: string): ReplicatorError {
  return new ReplicatorError({ code: "apply.misused", message, retry: "never", fault: "internal" });
}
