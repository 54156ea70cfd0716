/** The one inner part of kafkajs 2.2.4 that idle_timers.ts corrects. */
declare module "kafkajs/src/network/requestQueue/index.js" {
  export default class RequestQueue {
    throttleCheckTimeoutId: ReturnType<typeof setTimeout> | null;
    throttledUntil: number;
    readonly pending: readonly unknown[];
    checkPendingRequests(): void;
    scheduleCheckPendingRequests(this: RequestQueue): void;
  }
}
