/**
 * kafkajs 2.2.4 re-arms a timer with a negative delay on every open connection for ever (kafkajs #1751): 2.4 % of a core
 * for each idle connection and a TimeoutNegativeWarning. There is no option against it, so the one method is replaced:
 * without throttling and without pending requests there is nothing to check. The version is pinned; a test counts timers.
 */
import RequestQueue from "kafkajs/src/network/requestQueue/index.js";

const CHECK_MS = 10;
let done = false;

export function quietIdleTimers(): void {
  if (done) return;
  done = true;
  const original = RequestQueue.prototype.scheduleCheckPendingRequests;
  if (typeof original !== "function") return;
  RequestQueue.prototype.scheduleCheckPendingRequests = function (): void {
    if (this.throttleCheckTimeoutId !== null || this.pending.length === 0) return;
    this.throttleCheckTimeoutId = setTimeout(
      () => {
        this.throttleCheckTimeoutId = null;
        this.checkPendingRequests();
      },
      Math.max(this.throttledUntil - Date.now(), CHECK_MS),
    );
  };
}
