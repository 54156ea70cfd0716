/** Ownership is a lease (architecture §4.3): granted in a short transaction, never a lock held open. */
export interface Lease {
  readonly owner: string;
  /** Number of this ownership; guards SQL only, consumers of the broker never see it. */
  readonly term: number;
  /** On this process's monotonic clock (Clock.monotonic), counted from before the request was sent. */
  readonly expiresAt: number;
}
