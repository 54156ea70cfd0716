/** The SourceStore port as one process sees it: every call goes over the network and may meet its fate there. */
import type { Chunk, EventRow } from "../../../src/core/chunk.ts";
import type { Lease } from "../../../src/core/lease.ts";
import type { ChannelLayout, ChannelState, Cut, SourceStore } from "../../../src/core/source_store.ts";
import type { Host } from "../kernel/host.ts";
import type { Network } from "../kernel/network.ts";
import type { Random } from "../kernel/random.ts";
import { chunksOf, eventOf, type SourceServer } from "./source.ts";

export interface SourcePortOptions {
  readonly server: SourceServer;
  readonly host: Host;
  readonly network: Network;
  readonly random: Random;
}

export class SourcePort implements SourceStore {
  readonly #options: SourcePortOptions;
  readonly #server: SourceServer;
  #channels: readonly ChannelLayout[] = [];

  constructor(options: SourcePortOptions) {
    this.#options = options;
    this.#server = options.server;
  }

  open(): Promise<{ readonly epoch: number }> {
    return this.#ask("open the source", () => ({ epoch: 1 }));
  }

  setLayout(channels: readonly ChannelLayout[]): Promise<void> {
    this.#channels = channels;
    return this.#ask("set the layout", () => undefined);
  }

  departedChannels() {
    return this.#ask("departed channels", () => []);
  }

  async partitions(_cut: Cut, channel: string): Promise<number> {
    return this.#channels.find(({ name }) => name === channel)?.partitions ?? 0;
  }

  lease(kind: "cutter" | "channel", name: string, owner: string, ttlMs: number): Promise<Lease | null> {
    const askedAt = this.#options.host.clock.monotonic();
    const lease = nameOf(kind, name);
    return this.#ask(`lease of ${lease}`, () => this.#server.leases.take(lease, owner, ttlMs, askedAt));
  }

  releaseLease(kind: "cutter" | "channel", name: string, lease: Lease): Promise<void> {
    return this.#ask(`give up ${nameOf(kind, name)}`, () => this.#server.leases.giveUp(nameOf(kind, name), lease));
  }

  takeCut(lease: Lease, frameBytes: number): Promise<Cut | null> {
    return this.#ask("take a cut", () => {
      const cut = this.#server.takeCut(lease, frameBytes);
      if (cut)
        this.#server.db.trace(() => `${this.#options.host.name} cut ${cut.cutNo} (${cut.snapFrom} → ${cut.snapTo})`);
      return cut;
    });
  }

  channelState(channel: string, partitions: number): Promise<ChannelState> {
    return this.#ask(`state of ${channel}`, () => this.#server.state(channel, partitions));
  }

  cutsAfter(cutNo: number, limit: number): Promise<readonly Cut[]> {
    return this.#ask(`cuts after ${cutNo}`, () => this.#server.cutsAfter(cutNo, limit));
  }

  async *readChunks(cut: Cut, channel: string, signal: AbortSignal): AsyncGenerator<readonly Chunk[]> {
    const chunks = await this.#ask(`read cut ${cut.cutNo} of ${channel}`, () =>
      chunksOf(this.#server.rowsOf(cut, channel)),
    );
    yield* this.#pages(chunks, signal);
  }

  async *readEvents(cut: Cut, channel: string, signal: AbortSignal): AsyncGenerator<readonly EventRow[]> {
    const rows = await this.#ask(`read cut ${cut.cutNo} of ${channel}`, () =>
      this.#server.rowsOf(cut, channel).map(eventOf),
    );
    yield* this.#pages(rows, signal);
  }

  confirm(channel: string, lease: Lease, cut: Cut, sequences: readonly number[]): Promise<void> {
    return this.#ask(`confirm cut ${cut.cutNo} of ${channel}`, () =>
      this.#server.confirm(channel, lease, cut, [...sequences]),
    );
  }

  release(): Promise<number> {
    return this.#ask("release", () => this.#server.release());
  }

  async snapshots(): Promise<readonly []> {
    return [];
  }

  backlog() {
    return this.#ask("backlog", () => ({ unpublished: 0, oldestSeconds: 0, lastQueueId: "0", settledQueueId: "0" }));
  }

  ping(): Promise<void> {
    return this.#ask("ping", () => undefined);
  }

  async close(): Promise<void> {}

  /** Where a page ends is the reader's affair: frames must not depend on it (I13). */
  async *#pages<T>(items: readonly T[], signal: AbortSignal): AsyncGenerator<readonly T[]> {
    for (let at = 0; at < items.length; ) {
      signal.throwIfAborted();
      const size = this.#options.random.whole(1, 8);
      yield items.slice(at, at + size);
      at += size;
    }
  }

  #ask<T>(what: string, serve: () => T): Promise<T> {
    const { network, host } = this.#options;
    return network.ask(host, `database ${this.#server.db.contour}`, what, serve);
  }
}

function nameOf(kind: "cutter" | "channel", name: string): string {
  return kind === "cutter" ? "cutter" : `channel ${name}`;
}
