/** Who can take part, on each kind of subject, and against what. */
import { openDatabase } from "./subjects/database.ts";
import { openDirect } from "./subjects/direct.ts";
import { openMemory } from "./subjects/memory.ts";
import { openNative } from "./subjects/native.ts";
import { openReplicator } from "./subjects/replicator.ts";
import { openStartable } from "./subjects/startable.ts";
import type { AppDatabase, Contestant, Pair, Startable, Subject, SubjectName, Subjects } from "./types.ts";

/** The yardstick a second time, on servers of its own: how far two runs of the same are apart. */
export const CONTROL = "control";

export interface Field<S extends Subject> {
  /** Null: the figures stand for themselves. */
  readonly yardstick: Contestant<S> | null;
  /** In the order they are measured in: those that need Kafka, which is never quite idle, come last. */
  readonly contestants: readonly Contestant<S>[];
}

const BROKERS = ["nats", "kafka"] as const;

const pairs: Field<Pair> = {
  yardstick: { name: "native", about: "native logical replication", open: openNative },
  contestants: [
    { name: CONTROL, about: "native logical replication once more, on servers of its own", open: openNative },
    { name: "memory", about: "memory broker, both contours in one process", open: openMemory },
    { name: "direct", about: "direct mode, no broker", open: openDirect },
    ...BROKERS.flatMap((broker): Contestant<Pair>[] => {
      const open = (capture: "auto" | "row" | "statement", channel: "default" | "events" = "default") => {
        return () => openReplicator({ broker, capture, channel });
      };
      return [
        { name: broker, about: `${broker}, default channel, capture as it comes`, open: open("auto") },
        { name: `${broker}-row`, about: `${broker}, default channel, row triggers`, open: open("row") },
        {
          name: `${broker}-statement`,
          about: `${broker}, default channel, statement triggers`,
          open: open("statement"),
        },
        { name: `${broker}-events`, about: `${broker}, tables with topics of their own`, open: open("auto", "events") },
      ];
    }),
  ],
};

const databases: Field<AppDatabase> = {
  yardstick: { name: "off", about: "no capture", open: () => openDatabase("off") },
  contestants: [
    { name: CONTROL, about: "no capture once more, on a server of its own", open: () => openDatabase("off") },
    ...(["auto", "row", "statement"] as const).map((capture) => ({
      name: `capture-${capture}`,
      about: `capture: ${capture}`,
      open: () => openDatabase(capture),
    })),
  ],
};

const processes: Field<Startable> = {
  yardstick: null,
  contestants: BROKERS.map((broker) => ({
    name: `start-${broker}`,
    about: `the compiled program with ${broker}`,
    open: () => openStartable(broker),
  })),
};

export const FIELDS: { readonly [On in SubjectName]: Field<Subjects[On]> } = {
  // First those that need no Kafka.
  database: databases,
  pair: pairs,
  process: processes,
};

export const CONTESTANTS: readonly string[] = [
  ...new Set(Object.values(FIELDS).flatMap(({ contestants }) => contestants.map(({ name }) => name))),
];
