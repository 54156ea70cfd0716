/** What an adapter hands to the Broker suite: a way to make brokers on one real server, and what it can do to that server. */
import type { Broker } from "../../../src/core/broker.ts";
import type { Channel } from "../../../src/core/channel.ts";

/** Power over the real server. Only for a server that nobody else uses. */
export interface ServerControl {
  /** Stops it as an operator does; its data stays. Connections die. */
  stop(): Promise<void>;
  /** Starts it again on the same addresses; resolves when it answers. */
  start(): Promise<void>;
  /** SIGSTOP: connections stay open and nothing answers. */
  freeze(): void;
  thaw(): void;
}

export interface ForeignMessage {
  readonly partition: number;
  readonly key: string | null;
  readonly body: Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
}

export interface BrokerFixture {
  /** A new instance on the same server, as another process would make it. The suite closes it. */
  broker(options?: { readonly bufferBytes?: number }): Broker;
  /** One whose server address nobody listens on. */
  unreachable?(): Broker;
  /** One whose credentials the server refuses. */
  wrongCredentials?(): Broker;
  server?: ServerControl;
  /** Writes past our adapter, as any client of the broker can. */
  sendForeign?(channel: Channel, message: ForeignMessage): Promise<void>;
  /** Deletes the oldest `count` messages of a partition, as retention does. */
  dropOldest?(channel: Channel, partition: number, count: number): Promise<void>;
  /** Deletes the channel's log and makes it anew, empty: positions of the old one must not be taken for its own. */
  recreate?(channel: Channel): Promise<void>;
  /** Bytes of messages the broker instance holds for its readers at this moment. */
  heldBytes?(broker: Broker): number;
  close(): Promise<void>;
}

/** true: the fixture has the method and the cases run. A text: why they cannot, printed with the skip. */
export interface BrokerCapabilities {
  /** `assigned`: the broker divides partitions among the claimants of a group; `shared`: every claimant gets all of them. */
  readonly claims: "assigned" | "shared";
  readonly unreachable: true | string;
  readonly wrongCredentials: true | string;
  readonly server: true | string;
  readonly sendForeign: true | string;
  readonly dropOldest: true | string;
  readonly recreate: true | string;
  readonly heldBytes: true | string;
}
