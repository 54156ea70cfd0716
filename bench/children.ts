/** Processes that must not outlive the bench, whatever ends it. The servers of tests/servers see to themselves. */
import type { ChildProcess } from "node:child_process";

const running = new Set<Pick<ChildProcess, "kill">>();
let watching = false;

/** Kills the process when this one exits before it. */
export function endWithUs(child: ChildProcess): void {
  watch();
  running.add(child);
  child.once("exit", () => running.delete(child));
}

/** The same of a process that somebody else started; `exited` resolves at its end. */
export function endPidWithUs(pid: number, exited: Promise<unknown>): void {
  watch();
  const entry = { kill: () => process.kill(pid, "SIGKILL") };
  running.add(entry);
  void exited.then(() => running.delete(entry));
}

function watch(): void {
  if (watching) return;
  watching = true;
  process.once("exit", () => {
    for (const child of running) {
      try {
        child.kill("SIGKILL");
      } catch {
        // It ended meanwhile.
      }
    }
  });
}
