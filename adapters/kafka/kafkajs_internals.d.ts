/** The two inner parts of kafkajs 2.2.4 that idle_timers.ts and uncommitted_ends.ts correct. */
declare module "kafkajs/src/network/requestQueue/index.js" {
  export default class RequestQueue {
    throttleCheckTimeoutId: ReturnType<typeof setTimeout> | null;
    throttledUntil: number;
    readonly pending: readonly unknown[];
    checkPendingRequests(): void;
    scheduleCheckPendingRequests(this: RequestQueue): void;
  }
}

declare module "kafkajs/src/broker/index.js" {
  interface ListOffsets {
    readonly isolationLevel?: number | undefined;
    readonly topics: readonly unknown[];
  }
  export default class Broker {
    listOffsets(this: Broker, request: ListOffsets): Promise<unknown>;
  }
}
