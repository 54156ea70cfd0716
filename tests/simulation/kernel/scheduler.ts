/**
 * Virtual time. Whatever happens in a history is an event here; between two events all promises are driven as far as they
 * go, so one thread plays many machines and the order of events is decided by the seed alone.
 */
import { drainMicrotasks } from "bun:jsc";

/** Who an event belongs to. A server's events (null) happen whatever becomes of the processes. */
export interface Owner {
  readonly alive: boolean;
  /** Its events wait until then. */
  readonly frozenUntil: number;
}

export interface Timer {
  /** When it was to happen, in ms; a frozen owner's happens later. */
  readonly due: number;
  at: number;
  readonly order: number;
  readonly owner: Owner | null;
  /** Null once it has happened or was cancelled. */
  run: (() => void) | null;
}

export class Scheduler {
  #now = 0;
  #orders = 0;
  #current: Owner | null = null;
  readonly #heap: Timer[] = [];
  /** Events so far. */
  steps = 0;

  /** Milliseconds since the history began. */
  get now(): number {
    return this.#now;
  }

  /** Whose code runs now. */
  get current(): Owner | null {
    return this.#current;
  }

  after(ms: number, owner: Owner | null, run: () => void): Timer {
    const due = this.#now + Math.max(0, ms);
    const timer = { due, at: due, order: this.#orders++, owner, run };
    this.#push(timer);
    return timer;
  }

  /** The rest of this event, and the promises it wakes, belong to `owner`. */
  become(owner: Owner): void {
    this.#current = owner;
  }

  /** Does the next event. False when there is none. */
  step(): boolean {
    for (;;) {
      const timer = this.#pop();
      if (!timer) return false;
      const { run, owner } = timer;
      if (!run || (owner && !owner.alive)) continue;
      if (owner && owner.frozenUntil > timer.at) {
        timer.at = owner.frozenUntil;
        this.#push(timer);
        continue;
      }
      timer.run = null;
      this.#now = Math.max(this.#now, timer.at);
      this.#current = owner;
      this.steps++;
      run();
      drainMicrotasks();
      this.#current = null;
      return true;
    }
  }

  #push(timer: Timer): void {
    const heap = this.#heap;
    let at = heap.push(timer) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = heap[above];
      if (!parent || !before(timer, parent)) break;
      heap[at] = parent;
      at = above;
    }
    heap[at] = timer;
  }

  #pop(): Timer | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (!first || !last || first === last) return first;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      let child = heap[below];
      const right = heap[below + 1];
      if (right && child && before(right, child)) {
        below++;
        child = right;
      }
      if (!child || !before(child, last)) break;
      heap[at] = child;
      at = below;
    }
    heap[at] = last;
    return first;
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && (a.due < b.due || (a.due === b.due && a.order < b.order)));
}
