import { describe, expect, test } from "bun:test";
import { type Backend, LostAnswers, type Watched } from "../../../adapters/postgres/lost_answers.ts";
import { silentLogger } from "../../../src/core/logger.ts";

interface Session extends Watched {
  serial: number;
  age: number;
  received: number;
  given: string | null;
}

/** A session whose oldest statement was sent `age` ms ago. */
function session(pid: string | null, age = 60_000): Session {
  return {
    pid,
    age,
    serial: 1,
    received: 0,
    given: null,
    get waiting() {
      return this.age > 0 ? { serial: this.serial, since: performance.now() - this.age } : null;
    },
    destroy(reason) {
      this.given = (reason as Error & { code?: string }).code ?? "";
    },
  };
}

function world(sessions: readonly Session[], backends: () => readonly Backend[]) {
  const state = { probes: 0, open: 0 };
  const watch = new LostAnswers({
    label: "db",
    logger: silentLogger,
    sessions: () => sessions,
    connect: async () => {
      state.probes++;
      state.open++;
      return { query: async () => backends(), destroy: () => void state.open-- };
    },
  });
  return { watch, state };
}

const row = (pid: string, busy: boolean): Backend => ({ pid, busy: busy ? "t" : "f" });

describe("statements whose answer does not come", () => {
  test("a connection is given up when its backend has nothing to do at two looks, or is gone", async () => {
    const [idle, gone, busy] = [session("1"), session("2"), session("3")];
    const { watch, state } = world([idle, gone, busy], () => [row("1", false), row("3", true)]);
    await watch.look();
    expect([idle.given, gone.given, busy.given]).toEqual([null, null, null]);
    await watch.look();
    expect([idle.given, gone.given, busy.given]).toEqual(["database.answer_lost", "database.answer_lost", null]);
    expect(state.probes).toBe(1);
    watch.close();
    expect(state.open).toBe(0);
  });

  test("a statement that runs for hours is left alone", async () => {
    const busy = session("1", 36_000_000);
    const { watch } = world([busy], () => [row("1", true)]);
    for (let look = 0; look < 100; look++) await watch.look();
    expect(busy.given).toBeNull();
    watch.close();
  });

  test("another statement, or more of the answer, between two looks is a sign of life", async () => {
    const [next, more] = [session("1"), session("2")];
    const { watch } = world([next, more], () => [row("1", false), row("2", false)]);
    for (let look = 0; look < 5; look++) {
      await watch.look();
      next.serial++;
      more.received += 100;
    }
    expect([next.given, more.given]).toEqual([null, null]);
    watch.close();
  });

  test("nobody is asked while no statement is old, and a server that does not answer is no proof", async () => {
    const young = session("1", 10);
    const { watch, state } = world([young], () => {
      throw new Error("no answer");
    });
    await watch.look();
    expect(state.probes).toBe(0);
    young.age = 60_000;
    for (let look = 0; look < 4; look++) await watch.look();
    expect(young.given).toBeNull();
    expect([state.probes, state.open]).toEqual([4, 0]);
    watch.close();
  });

  test("a backend whose number is not known is not judged", async () => {
    const unknown = session(null);
    const { watch } = world([unknown], () => []);
    for (let look = 0; look < 4; look++) await watch.look();
    expect(unknown.given).toBeNull();
    watch.close();
  });
});
