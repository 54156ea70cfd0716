/** What a check may watch. It is told of what happens in a history as it happens, and asked at its end. */
import type { Channel } from "../../../src/core/channel.ts";
import type { Message } from "../../../src/core/message.ts";
import type { Cut } from "../../../src/core/source_store.ts";
import type { BrokerRecord } from "../broker/server.ts";
import type { Database } from "../database/database.ts";
import type { Incoming, Outcome } from "../database/incoming.ts";
import type { Applied } from "../database/target.ts";
import type { Profile } from "../profile.ts";

export interface Watched {
  readonly profile: Profile;
  readonly databases: readonly Database[];
  /** How many changes are parked at a contour. */
  parkedAt(contour: string): number;
}

export interface Observer {
  /** A transaction of an application or of apply has committed what it wrote. */
  committed?(db: Database): void;
  cutTaken?(db: Database, cut: Cut): void;
  stored?(channel: Channel, message: Message): void;
  /** A reader got a message; again: its contour had got it, or a later one of its partition, before. */
  delivered?(again: boolean): void;
  acknowledged?(group: string, records: readonly BrokerRecord[]): void;
  applied?(applied: Applied): void;
  /** A parked change came to its end. */
  settled?(contour: string, change: Incoming, outcome: Outcome): void;
  /** Everything has come to rest. */
  ended?(): void;
}

export interface Check {
  /** One word or two, as failures name it. */
  readonly name: string;
  /** The promise. */
  readonly says: string;
  /** @param fail tells what was found; the first ends the history */
  observe(watched: Watched, fail: (found: string) => void): Observer;
}
