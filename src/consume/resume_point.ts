/**
 * Where a source is read on from after a restart. A message that came before its turn lies in the log before the one it
 * waited for: until it is applied the position must not pass it. The broker may have dropped what was acknowledged, and
 * may not store a resend of what it has seen: such a message would never come again. Pure.
 */
import type { Position } from "../core/broker.ts";

export class ResumePoint {
  /** Where the oldest message that came before its turn is read again; null when none waits. */
  #kept: Position | null = null;

  /** A message is kept until its turn. `before`: the position before it; null when the read began at the log's earliest. */
  keep(before: Position | null, delivery: { readonly next: Position }): void {
    this.#kept ??= before ?? { identity: delivery.next.identity, offset: "0" };
  }

  /**
   * The position to record with a message that passes. `delivery`: the one just read, which let it pass; `all`: nothing
   * that passes with it comes after it, and nothing is kept any more.
   */
  after(delivery: { readonly next: Position }, all: boolean): Position {
    const position = this.#kept ?? delivery.next;
    if (!all) return position;
    this.#kept = null;
    return delivery.next;
  }
}
