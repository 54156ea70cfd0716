/**
 * The histories of the simulation on real PostgreSQL and both brokers: the same profiles and operations by seed, with
 * processes killed, stopped and frozen, connections cut and the broker away. Smaller, and in real time.
 * More of them: E2E_HISTORIES=100, from seed FROM on.
 */
import { afterEach, expect, test } from "bun:test";
import { Random } from "../simulation/kernel/random.ts";
import { longProfileOf, type Profile } from "../simulation/profile.ts";
import { ACCOUNT_KEYS, BALANCE } from "../simulation/workload/operations.ts";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { type Contour, type Replicator, untilEqual } from "./harness.ts";
import { type Load, startLoad, TIMES } from "./histories/load.ts";
import { ACCEPT_POISON, DDL, KEYS, REFUSE_POISON, TABLE_CONFIG } from "./histories/schema.ts";
import { BROKERS, type OwnBroker, openMesh, ownBroker } from "./pair.ts";
import { untilSettled } from "./settled.ts";

/** For each broker and number of contours. */
const HISTORIES = Number(process.env.E2E_HISTORIES ?? 4);
const FROM = Number(process.env.FROM ?? 1);
const MINUTES = 60_000;

interface Site {
  readonly contour: Contour;
  process: Replicator;
}

for (const kind of BROKERS) {
  describeWith([kind, "postgres"], `histories over ${kind}`, () => {
    let close: (() => Promise<unknown>)[] = [];
    afterEach(async () => {
      for (const end of close.reverse()) await end();
      close = [];
    });

    for (const count of [2, 3]) {
      test(
        `I5 I6 I8: ${HISTORIES} histories of ${count} contours end equal`,
        async () => {
          const broker = await ownBroker(kind);
          close.push(() => broker.close());
          const mesh = await openMesh(count, {
            broker: broker.config,
            ddl: DDL,
            tables: TABLE_CONFIG,
            kafkaTopic: { partitions: 2 },
          });
          close.push(() => mesh.close());
          const sites: Site[] = [];
          for (const contour of mesh.contours) sites.push({ contour, process: await contour.start() });
          for (let seed = FROM; seed < FROM + HISTORIES; seed++) {
            await runHistory(seed, longProfileOf(seed * 10 + count), sites, broker).catch((error: unknown) => {
              throw new Error(`history ${seed} of ${count} contours over ${kind}: ${String(error)}`);
            });
          }
        },
        (2 + HISTORIES) * MINUTES,
      );
    }
  });
}

async function runHistory(seed: number, profile: Profile, sites: readonly Site[], broker: OwnBroker): Promise<void> {
  const contours = sites.map(({ contour }) => contour);
  await contours[1]?.sql.unsafe(`DELETE FROM items WHERE value LIKE 'poison%'`);
  await untilSettled(contours);
  await contours[1]?.sql.unsafe(REFUSE_POISON);
  const loads = contours.map(({ url }, n) => startLoad(url, n, seed, profile));
  const done = Promise.all(loads.map((load) => load.done));
  await goWrong(seed, profile, sites, broker, loads);
  await done;
  await contours[1]?.sql.unsafe(ACCEPT_POISON);
  await untilSettled(contours);
  await untilEqual(contours, KEYS);
  for (const { sql } of contours) {
    const [sum] = await sql`SELECT count(*)::int AS accounts, coalesce(sum(balance), 0)::int AS money FROM accounts`;
    const accounts = sum?.accounts === 0 ? 0 : ACCOUNT_KEYS.length;
    expect(sum).toEqual({ accounts, money: accounts * BALANCE });
  }
}

/** The profile's faults, one after the other, while the sessions write; all is healed when it returns. */
async function goWrong(
  seed: number,
  { chaos, sessions, transactions, oneWriter }: Profile,
  sites: readonly Site[],
  broker: OwnBroker,
  loads: readonly Load[],
): Promise<void> {
  const random = new Random(seed, "real faults");
  const faults = [
    ...Array<Fault>(chaos.kills).fill(killed),
    ...Array<Fault>(chaos.stops).fill(stopped),
    ...Array<Fault>(chaos.freezes).fill(frozen),
    ...Array<Fault>(chaos.databaseOutages).fill(cut),
    ...Array<Fault>(Math.min(chaos.brokerOutages, 1)).fill(brokerKilled),
  ];
  const total = TIMES * sessions * transactions * (oneWriter ? 1 : sites.length);
  const ended = () => loads.reduce((sum, load) => sum + load.ended(), 0);
  for (const [n, fault] of faults.entries()) {
    const due = Math.floor((total * n) / (faults.length + 1));
    await until("the sessions go on", () => ended() >= due || ended());
    await fault(random.pick(sites), broker);
  }
}

type Fault = (site: Site, broker: OwnBroker) => Promise<void>;

const killed: Fault = async (site) => {
  await site.process.kill();
  site.process = await site.contour.start("all", false);
};

const stopped: Fault = async (site) => {
  expect(await site.process.stop()).toBe(0);
  site.process = await site.contour.start("all", false);
};

/** Frozen, replaced, and thawed while the other one works: it must find that it lost its leases. */
const frozen: Fault = async (site) => {
  const former = site.process;
  former.signal("SIGSTOP");
  site.process = await site.contour.start();
  former.signal("SIGCONT");
  await former.stop();
};

const cut: Fault = async ({ contour: { sql } }) => {
  await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE 'replicator%'`;
};

const brokerKilled: Fault = async (_, broker) => {
  await broker.kill();
  await broker.start();
};
