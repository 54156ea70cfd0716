/**
 * Servers that left a statement without an answer, and since when. A network that swallows packets says nothing to either
 * side, and it takes every connection at once: those that have not heard from the server since then are not handed out
 * any more, in whichever pool of this process they wait.
 */
const silentSince = new Map<string, number>();

/** A statement sent at `sentAt` (performance.now()) was not answered by the server. */
export function noteSilence(server: string, sentAt: number): void {
  silentSince.set(server, Math.max(sentAt, silentSince.get(server) ?? sentAt));
}

/** Whether a connection on which the server was heard last at `heardAt` may be dead for the same reason. */
export function isSuspect(server: string, heardAt: number): boolean {
  return heardAt <= (silentSince.get(server) ?? Number.NEGATIVE_INFINITY);
}
