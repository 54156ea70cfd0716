/** The loop behind `replicator snapshot`: pace, waiting for the broker, one at a time, going on; and its progress line. */
import { describe, expect, test } from "bun:test";
import { drawProgress, duration, ProgressLine } from "../../src/cli/progress.ts";
import type { Clock } from "../../src/core/clock.ts";
import { ReplicatorError } from "../../src/core/errors.ts";
import type { Pressure, SnapshotSource, SnapshotTable } from "../../src/core/snapshot.ts";
import { Pace } from "../../src/snapshot/pace.ts";
import { runSnapshot } from "../../src/snapshot/run_snapshot.ts";

/** A clock on which sleeping is what makes time pass. */
class FakeClock implements Clock {
  #now = 0;
  onSleep: () => void = () => undefined;
  monotonic = () => this.#now;
  now = () => this.#now;
  pass(ms: number): void {
    this.#now += ms;
  }
  sleep(ms: number): Promise<void> {
    this.#now += Math.max(0, ms);
    this.onSleep();
    return Promise.resolve();
  }
}

const table = (name: string, more: Partial<SnapshotTable> = {}): SnapshotTable => ({
  table: name,
  tableId: name,
  channel: "changes",
  state: "waiting",
  rows_done: 0,
  rows_estimated: 100,
  bytes_done: 0,
  requested_by: "me",
  started_at: null,
  finished_at: null,
  confirmed: true,
  circle: false,
  ...more,
});

/** Tables with rows that are only counted. */
class FakeSource implements SnapshotSource {
  readonly left = new Map<string, number>();
  readonly stepped: string[] = [];
  tables: SnapshotTable[];
  pressures: Pressure[] = [];
  owner: { owner: string; until: string; expired: boolean } | null = null;
  fail: (() => void) | null = null;
  letGoCalls = 0;

  constructor(tables: readonly SnapshotTable[]) {
    this.tables = [...tables];
    for (const { table: name, rows_done, rows_estimated, state } of tables)
      this.left.set(name, state === "done" ? 0 : rows_estimated - rows_done);
  }
  hold = async (owner: string) => this.owner === null || this.owner.owner === owner || this.owner.expired;
  holder = async () => this.owner;
  letGo = async () => {
    this.letGoCalls++;
  };
  begin = async () => this.tables;
  progress = async () => this.tables;
  async step(tableId: string, _owner: string, _ttlMs: number, mostRows: number) {
    this.fail?.();
    const left = this.left.get(tableId) ?? 0;
    const rows = Math.min(left, mostRows);
    this.left.set(tableId, left - rows);
    this.stepped.push(`${tableId} ${rows}`);
    const ended = left - rows === 0;
    this.tables = this.tables.map((one) =>
      one.tableId === tableId ? { ...one, rows_done: one.rows_done + rows, state: ended ? "done" : "running" } : one,
    );
    return { rows, bytes: rows * 100, ended, begunAnew: false };
  }
  pressure = async () => this.pressures.shift() ?? { changes: 0, bytes: 0, publishing: true };
}

function start(source: FakeSource, more: Partial<Parameters<typeof runSnapshot>[0]> = {}) {
  const said: string[] = [];
  const clock = new FakeClock();
  const stop = new AbortController();
  const running = runSnapshot({
    source,
    owner: "me",
    tables: [],
    restart: false,
    exact: false,
    wait: false,
    rate: null,
    limits: { changes: 1_000, bytes: 1_000_000 },
    clock,
    signal: stop.signal,
    onProgress: () => undefined,
    say: (text) => said.push(text),
    ...more,
  });
  return { running, said, clock, stop };
}

const waiting = (changes: number, publishing = true): Pressure => ({ changes, bytes: 0, publishing });

describe("a snapshot", () => {
  test("takes the tables in their order, each to its end, and lets go", async () => {
    const source = new FakeSource([table("a", { rows_estimated: 6_000 }), table("b", { rows_estimated: 0 })]);
    const { running, said } = start(source);
    expect(await running).toMatchObject({ complete: true, rows: 6_000 });
    expect(source.stepped).toEqual(["a 5000", "a 1000", "b 0"]);
    expect({ said, letGo: source.letGoCalls }).toEqual({ said: [], letGo: 1 });
  });

  test("goes on with what is not finished, and says what it leaves out", async () => {
    const source = new FakeSource([
      table("a", { state: "done", rows_done: 100 }),
      table("b", { rows_done: 40, state: "running" }),
    ]);
    const { running, said } = start(source);
    expect((await running).rows).toBe(60);
    expect(said).toEqual([
      "Going on with the snapshot that was not finished: b after 40 rows; finished and not sent again: a. --restart begins all of them anew",
    ]);
  });

  test("waits while too much waits for the broker, and says so when no publisher runs or nothing moves", async () => {
    const source = new FakeSource([table("a")]);
    source.pressures = [...Array<Pressure>(30).fill(waiting(2_000, false)), waiting(10)];
    const { running, said } = start(source);
    await running;
    expect(said).toEqual([
      "Waiting: 2000 changes (0 MB) wait for the broker's confirmation, and no publisher is running here. Start one: replicator run --role publisher",
    ]);
    const slow = new FakeSource([table("a")]);
    slow.pressures = [...Array<Pressure>(150).fill(waiting(2_000)), waiting(10)];
    const second = start(slow);
    await second.running;
    expect(second.said).toEqual([
      "Waiting: 2000 changes (0 MB) wait for the broker's confirmation. replicator status tells whether the publisher moves",
    ]);
  });

  test("ends after the chunk under way when it is asked to stop, and is not complete", async () => {
    const source = new FakeSource([table("a", { rows_estimated: 20_000 })]);
    const { running, stop } = start(source, {
      onProgress: (tables) => tables[0]?.rows_done === 10_000 && stop.abort(),
    });
    expect(await running).toMatchObject({ complete: false, rows: 10_000 });
    expect(source.letGoCalls).toBe(1);
  });

  test("with wait it returns when everything is confirmed", async () => {
    const source = new FakeSource([table("a", { confirmed: false })]);
    const { running, clock } = start(source, { wait: true });
    let looks = 0;
    clock.onSleep = () => {
      if (++looks === 5) source.tables = source.tables.map((one) => ({ ...one, confirmed: true }));
    };
    expect(await running).toMatchObject({ complete: true, tables: [{ confirmed: true }] });
    expect(looks).toBe(5);
  });

  test("of two at a time the second is told who runs it; a right that is not renewed is taken over", async () => {
    const source = new FakeSource([table("a")]);
    source.owner = { owner: "host:1", until: "10:00", expired: false };
    const busy = start(source);
    busy.clock.onSleep = () => {
      source.owner = { owner: "host:1", until: "10:01", expired: false };
    };
    await expect(busy.running).rejects.toMatchObject({
      code: "snapshot.busy",
      message: "Cannot send a snapshot: host:1 is sending one",
    });
    expect(source.stepped).toEqual([]);
    const dead = start(source);
    dead.clock.onSleep = () => {
      source.owner = { owner: "host:1", until: "10:01", expired: true };
    };
    expect(await dead.running).toMatchObject({ complete: true });
  });

  test("a database that is away for a moment is asked again; one that stays away, and what cannot mend itself, end it", async () => {
    const away = (retry: "backoff" | "never") =>
      new ReplicatorError({ code: "database.unreachable", message: "Cannot reach it", retry, fault: "environment" });
    const source = new FakeSource([table("a")]);
    let failures = 3;
    source.fail = () => {
      if (failures-- > 0) throw away("backoff");
    };
    const { running, said } = start(source);
    expect(await running).toMatchObject({ complete: true });
    expect(said).toEqual(["Cannot reach it: trying again for 60 s"]);
    for (const retry of ["backoff", "never"] as const) {
      const gone = new FakeSource([table("a")]);
      gone.fail = () => {
        throw away(retry);
      };
      await expect(start(gone).running).rejects.toThrow("Cannot reach it");
    }
  });
});

describe("the pace of a snapshot", () => {
  test("keeps a rate, in small chunks, and does not make up for a pause", async () => {
    const clock = new FakeClock();
    const pace = new Pace({ rate: 1_000, clock });
    const { signal } = new AbortController();
    expect(pace.rows).toBe(200);
    for (let n = 0; n < 10; n++) {
      await pace.turn(signal);
      pace.took(pace.rows);
    }
    expect(clock.monotonic()).toBe(1_800);
    clock.pass(60_000);
    const paused = clock.monotonic();
    for (let n = 0; n < 10; n++) {
      await pace.turn(signal);
      pace.took(pace.rows);
    }
    expect(clock.monotonic() - paused).toBeGreaterThanOrEqual(1_600);
  });

  test("a rate below a row each stretch takes one row at a time", () => {
    expect(new Pace({ rate: 0.5, clock: new FakeClock() }).rows).toBe(1);
    expect(new Pace({ rate: null, clock: new FakeClock() }).rows).toBe(5_000);
  });
});

describe("the progress of a snapshot", () => {
  test("is drawn with rows, speed and time left; an estimate that was too low never says it is done", () => {
    const half = [
      table("a", { state: "done", rows_done: 250_000 }),
      table("b", { state: "running", rows_done: 250_000, rows_estimated: 750_000 }),
    ];
    expect(drawProgress(half, 50_000)).toBe(
      "b  [############------------]  50 %  500,000 of 1,000,000 rows  50,000 rows/s  10 s left",
    );
    expect(drawProgress([table("a", { state: "running", rows_done: 500 })], 0)).toBe(
      "a  [########################]  99 %  500 of 500 rows  waiting",
    );
    expect(drawProgress([table("a", { state: "done", rows_done: 7 })], 0)).toContain("100 %  7 of 7 rows");
    expect([0.2, 90, 3_700].map(duration)).toEqual(["1 s", "1 min 30 s", "1 h 1 min"]);
  });

  test("is redrawn in place on a terminal, and a line every few seconds elsewhere", () => {
    for (const sayIsTerminal of [true, false]) {
      const clock = new FakeClock();
      const said: string[] = [];
      const written: string[] = [];
      const line = new ProgressLine(
        { sayIsTerminal, say: (text) => said.push(text), write: (text) => written.push(text) },
        clock,
      );
      for (let n = 0; n <= 100; n++) {
        line.show([table("a", { state: "running", rows_done: n })]);
        clock.pass(100);
      }
      line.close();
      if (sayIsTerminal) {
        expect(written.length).toBe(52);
        expect(written[1]).toStartWith("\r\u001b[K");
        expect(written.at(-1)).toBe("\n");
      } else
        expect(said).toEqual([
          expect.stringContaining("50 of 100 rows  10 rows/s  5 s left"),
          expect.stringContaining("100 of 100 rows"),
        ]);
    }
  });
});
