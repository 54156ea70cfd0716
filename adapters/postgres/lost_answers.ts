/**
 * Finds statements whose answer will never come. A statement may rightly take minutes, so a deadline is no sign; but a
 * backend that has nothing to do while we wait for it has answered into a network that swallowed the answer, or was never
 * asked. Another connection asks the server what the backends are doing; two such looks at the same statement, and the
 * connection is given up.
 */
import { ReplicatorError } from "../../src/core/errors.ts";
import type { Logger } from "../../src/core/logger.ts";

/** What is looked at of a session. */
export interface Watched {
  readonly pid: string | null;
  /** The statement that has waited longest, and since when (performance.now()). */
  readonly waiting: { readonly serial: number; readonly since: number } | null;
  /** Bytes that came from the server so far. */
  readonly received: number;
  destroy(reason: Error): void;
}

/** A connection of the watch's own. */
export interface Probe {
  query(text: string, params: readonly string[], options: { readonly timeoutMs: number }): Promise<readonly Backend[]>;
  destroy(): void;
}

export interface Backend {
  readonly [column: string]: string | null;
}

export interface LostAnswersOptions {
  readonly label: string;
  readonly logger: Logger;
  sessions(): Iterable<Watched>;
  connect(signal: AbortSignal): Promise<Probe>;
}

const LOOK_MS = 3_000;
/** Younger statements are not looked at. */
const LONG_MS = 5_000;
const ANSWER_MS = 5_000;

// Of a backend of another role the state is hidden (NULL), with track_activities off it is 'disabled': nothing is known.
// One that waits for us to take in its answer, of which nothing comes, has nothing to do either.
const BUSY = `SELECT pid::text, state IS NULL OR (state !~ '^idle' AND wait_event IS DISTINCT FROM 'ClientWrite') AS busy
FROM pg_stat_activity WHERE pid = ANY ($1::int[])`;

/** What a session waited for when nobody worked on it: a statement, and how far its answer had come. */
interface Seen {
  readonly serial: number;
  readonly received: number;
}

export class LostAnswers {
  readonly #options: LostAnswersOptions;
  /** Statements that nobody worked on at the last look. */
  #idle = new Map<Watched, Seen>();
  #probe: Probe | null = null;
  #looking = false;
  #timer: ReturnType<typeof setInterval> | undefined;
  readonly #closed = new AbortController();

  constructor(options: LostAnswersOptions) {
    this.#options = options;
  }

  /** Looks now and then from now on. Safe to call twice. */
  start(): void {
    if (this.#timer !== undefined || this.#closed.signal.aborted) return;
    this.#timer = setInterval(() => void this.look(), LOOK_MS);
    // It serves those who wait; it keeps nobody alive.
    this.#timer.unref?.();
  }

  close(): void {
    this.#closed.abort();
    clearInterval(this.#timer);
    this.#drop();
  }

  /** One look. Never rejects: a server that does not answer says nothing about what it is doing. */
  async look(): Promise<void> {
    if (this.#looking) return;
    const old = performance.now() - LONG_MS;
    const suspects = [...this.#options.sessions()].filter(({ waiting }) => waiting !== null && waiting.since < old);
    if (suspects.length === 0) {
      this.#idle.clear();
      this.#drop();
      return;
    }
    this.#looking = true;
    try {
      await this.#judge(suspects);
    } catch (error) {
      this.#options.logger.debug({ database: this.#options.label, reason: String(error) }, "Could not ask what runs");
      this.#idle.clear();
      this.#drop();
    } finally {
      this.#looking = false;
    }
  }

  async #judge(suspects: readonly Watched[]): Promise<void> {
    const asked = suspects.map((session) => ({ session, now: seen(session) }));
    this.#probe ??= await this.#options.connect(AbortSignal.any([this.#closed.signal, AbortSignal.timeout(ANSWER_MS)]));
    const pids = suspects.flatMap(({ pid }) => (pid === null ? [] : [pid]));
    const found = await this.#probe.query(BUSY, [`{${pids.join(",")}}`], { timeoutMs: ANSWER_MS });
    const busy = new Map(found.map((row) => [row.pid, row.busy === "t"]));
    const before = this.#idle;
    this.#idle = new Map();
    for (const { session, now } of asked) {
      if (session.pid === null || busy.get(session.pid) === true || !same(now, seen(session))) continue;
      if (same(now, before.get(session))) session.destroy(answerLost(this.#options.label));
      else this.#idle.set(session, now);
    }
  }

  #drop(): void {
    this.#probe?.destroy();
    this.#probe = null;
  }
}

function seen({ waiting, received }: Watched): Seen {
  return { serial: waiting?.serial ?? 0, received };
}

function same(one: Seen, other: Seen | undefined): boolean {
  return one.serial === other?.serial && one.received === other.received;
}

function answerLost(label: string): ReplicatorError {
  return new ReplicatorError({
    code: "database.answer_lost",
    message: `Gave up a connection to ${label}: the server has finished the statement and its answer does not come`,
    retry: "backoff",
    fault: "environment",
    remedy: "Packets are lost on the way: look at firewalls and NAT between here and the server",
  });
}
