/**
 * The one conformance suite of the Broker port: every claim of src/core/broker.ts is a case. An adapter's own test is
 * `describeBroker(name, open, capabilities)` against the real service. A capability that is claimed adds cases; one that
 * is not carries a written reason, printed with the skip.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, test } from "bun:test";
import type { BrokerCapabilities, BrokerFixture } from "./fixture.ts";
import { claimCases } from "./suite_claims.ts";
import { outageCases } from "./suite_outage.ts";
import { readCases } from "./suite_read.ts";
import { World } from "./suite_support.ts";
import { writeCases } from "./suite_write.ts";

/** Declares one case. `needs` names the capability without which it is skipped. */
export type Case = (
  title: string,
  run: (world: World) => Promise<void>,
  options?: { readonly needs?: CapabilityName; readonly timeoutMs?: number },
) => void;

export type CapabilityName = Exclude<keyof BrokerCapabilities, "claims">;

export function describeBroker(
  name: string,
  open: () => Promise<BrokerFixture>,
  capabilities: BrokerCapabilities,
): void {
  describe(`Broker port, ${name}`, () => {
    let fixture: BrokerFixture | null = null;
    let world: World | null = null;

    beforeAll(async () => {
      fixture = await open();
    }, 120_000);
    afterAll(async () => {
      await fixture?.close();
    }, 60_000);
    beforeEach(() => {
      if (!fixture) throw new Error("The fixture did not open");
      world = new World(fixture);
    });
    afterEach(async () => {
      await world?.end();
      world = null;
    }, 30_000);

    const declare: Case = (title, run, options = {}) => {
      const capability = options.needs ? capabilities[options.needs] : true;
      if (capability !== true) {
        test.skip(`${title} (skipped: ${capability})`, () => {});
        return;
      }
      test(
        title,
        async () => {
          if (!world || !fixture) throw new Error("The fixture did not open");
          if (options.needs && !fixture[options.needs]) {
            throw new Error(`The capability "${options.needs}" is claimed, but the fixture has no such member`);
          }
          await run(world);
        },
        options.timeoutMs ?? 60_000,
      );
    };

    describe("channels and sending", () => writeCases(declare));
    describe("reading", () => readCases(declare));
    describe("claims and closing", () => claimCases(declare, capabilities));
    describe("outages", () => outageCases(declare));
  });
}
