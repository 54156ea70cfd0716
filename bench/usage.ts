/** Processor time and memory of processes and of all they have started, as /proc tells it. Linux only. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

export interface ProcessUsage {
  /** Seconds of processor time, children that have ended included. */
  readonly cpuSeconds: number;
  /** Most resident memory since the peaks were reset; of PostgreSQL the sum without what its processes share. */
  readonly peakMb: number;
}

/** By the name of the process. */
export type Usage = Readonly<Record<string, ProcessUsage>>;

/** How a name's processes are found. */
export interface Watched {
  readonly pid: number;
  /** With all below it: PostgreSQL works in children. */
  readonly tree: boolean;
}

const TICKS = Number(spawnSync("getconf", ["CLK_TCK"], { encoding: "utf8" }).stdout) || 100;

export function usageOf(watched: Readonly<Record<string, Watched>>): Usage {
  return Object.fromEntries(
    Object.entries(watched).map(([name, { pid, tree }]) => {
      const pids = tree ? [pid, ...descendants(pid)] : [pid];
      const memory = tree ? sum(pids.map(ownMb)) : peakMb(pid);
      return [name, { cpuSeconds: sum(pids.map(cpuSeconds)), peakMb: memory }];
    }),
  );
}

/** Makes VmHWM begin anew. A process of another user keeps its old peak. */
export function resetPeak(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, "5");
  } catch {
    // It ended, or is not ours: its peak is then that of its life.
  }
}

/** Processes whose parent is this one. */
export function childrenOf(pid: number): number[] {
  return parents().flatMap(([child, parent]) => (parent === pid ? [child] : []));
}

function descendants(pid: number): number[] {
  const all = parents();
  const found: number[] = [];
  for (const open = [pid]; open.length > 0; ) {
    const at = open.pop();
    const below = all.flatMap(([child, parent]) => (parent === at ? [child] : []));
    found.push(...below);
    open.push(...below);
  }
  return found;
}

function parents(): [pid: number, parent: number][] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name): [number, number][] => {
      const stat = fieldsOfStat(Number(name));
      return stat ? [[Number(name), Number(stat[1])]] : [];
    });
}

/** The fields of /proc/PID/stat from the third on: the name before them may hold blanks and brackets. */
function fieldsOfStat(pid: number): string[] | undefined {
  const stat = read(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
}

function cpuSeconds(pid: number): number {
  const stat = fieldsOfStat(pid);
  // utime, stime, and those of children that were waited for (fields 14 to 17).
  return stat ? sum(stat.slice(11, 15).map(Number)) / TICKS : 0;
}

function peakMb(pid: number): number {
  return fieldOfStatus(pid, "VmHWM");
}

/** What is not shared with others, at the moment: shared buffers would count once for each backend. */
function ownMb(pid: number): number {
  return fieldOfStatus(pid, "RssAnon");
}

function fieldOfStatus(pid: number, field: string): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(read(`/proc/${pid}/status`) ?? "");
  return Number(found?.[1] ?? 0) / 1024;
}

/** Undefined when the process has ended. */
function read(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
