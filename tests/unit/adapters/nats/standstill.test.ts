import { expect, test } from "bun:test";
import { standsStill } from "../../../../adapters/nats/standstill.ts";
import { HandClock } from "../../../support/hand_clock.ts";

interface State {
  readonly pending: number;
  readonly delivered: number;
}

function world(state: () => State | null = () => ({ pending: 0, delivered: 0 })) {
  const clock = new HandClock();
  const session = { waiting: true, nextDelivery: 1 };
  const stop = new AbortController();
  const seen = { asked: 0, said: null as boolean | null };
  const asking = async () => {
    seen.asked++;
    return state();
  };
  const ended = standsStill({ session, state: asking, clock, signal: stop.signal }).then(
    (still) => (seen.said = still),
  );
  return { clock, session, stop, seen, ended };
}

test("messages that are there and are not delivered at two looks: the durable stands still", async () => {
  const { clock, seen, ended } = world(() => ({ pending: 3, delivered: 0 }));
  await clock.advance(10_000);
  expect(seen.said).toBeNull();
  await clock.advance(10_000);
  expect(await ended).toBe(true);
});

test("a delivery that the server counts and we never got is a standstill too", async () => {
  const { clock, ended } = world(() => ({ pending: 0, delivered: 1 }));
  await clock.advance(20_000);
  expect(await ended).toBe(true);
});

test("a durable with nothing to deliver may wait for ever", async () => {
  const { clock, seen, stop, ended } = world();
  await clock.advance(600_000);
  expect(seen.said).toBeNull();
  stop.abort();
  expect(await ended).toBe(false);
});

test("one that delivers now and then does not stand still, however far behind it is, and nobody asks", async () => {
  const { clock, session, seen } = world(() => ({ pending: 1_000_000, delivered: 0 }));
  for (let round = 0; round < 50; round++) {
    await clock.advance(4_000);
    session.nextDelivery++;
  }
  expect(seen.said).toBeNull();
  expect(seen.asked).toBe(0);
});

test("a reader that is busy is not asked about, and an answer that does not come is no proof", async () => {
  const slow = world(() => ({ pending: 1, delivered: 9 }));
  slow.session.waiting = false;
  await slow.clock.advance(600_000);
  expect([slow.seen.said, slow.seen.asked]).toEqual([null, 0]);
  const unanswered = world(() => null);
  await unanswered.clock.advance(60_000);
  expect(unanswered.seen.said).toBeNull();
});
