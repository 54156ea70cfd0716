/** Work of a server that may have to wait: for a lock, or for the client's next statement. A generator that says so. */
import type { Scheduler, Timer } from "../kernel/scheduler.ts";

export type Step = { readonly waitFor: string } | { readonly pauseMs: number };
/** `yield*` it inside other work. It throws SqlError where PostgreSQL would. */
export type Work<T> = Generator<Step, T, void>;

export interface Settled<T> {
  done(value: T): void;
  failed(error: unknown): void;
}

export class Task<T> {
  readonly #work: Work<T>;
  readonly #settled: Settled<T>;
  readonly #scheduler: Scheduler;
  /** Registers it to be advanced when the resource may be free. */
  readonly #wait: (resource: string, task: Task<T>) => void;
  #ended = false;
  #timer: Timer | null = null;

  constructor(
    scheduler: Scheduler,
    work: Work<T>,
    settled: Settled<T>,
    wait: (resource: string, task: Task<T>) => void,
  ) {
    this.#scheduler = scheduler;
    this.#work = work;
    this.#settled = settled;
    this.#wait = wait;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Goes on until it must wait or has ended. */
  advance(): void {
    if (this.#ended) return;
    let step: IteratorResult<Step, T>;
    try {
      step = this.#work.next();
    } catch (error) {
      this.#ended = true;
      this.#settled.failed(error);
      return;
    }
    if (step.done) {
      this.#ended = true;
      this.#settled.done(step.value);
    } else if ("waitFor" in step.value) this.#wait(step.value.waitFor, this);
    else this.#timer = this.#scheduler.after(step.value.pauseMs, null, () => this.advance());
  }

  /** It never goes on; nobody is told. */
  cancel(): void {
    this.#ended = true;
    if (this.#timer) this.#timer.run = null;
  }
}
