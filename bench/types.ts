/** The words of the bench: what is measured, on whom, and what comes out. */
import type { Sql } from "postgres";
import type { Usage } from "./usage.ts";

export type Unit = "rows/s" | "tps" | "ms" | "s" | "MB" | "µs/row" | "%" | "rows";

/** One figure of one run of a workload. */
export interface Measurement {
  /** What it is, the same words in every run: "insert, from commit". */
  readonly metric: string;
  readonly unit: Unit;
  /** Which direction is the good one; `neither` is context (what a figure was taken under). */
  readonly better: "more" | "less" | "neither";
  readonly value: number;
  /** The process whose memory or processor time it is; absent for figures of the whole. */
  readonly process?: string;
}

/** How large the workloads are. */
export interface Size {
  /** Rows of one bulk statement. */
  readonly rows: number;
  /** Rows of the backlog. */
  readonly backlog: number;
  /** Single-row changes a second of the steady load. */
  readonly rate: number;
  /** How long a steady or an unthrottled load runs. */
  readonly seconds: number;
  /** How long a process is watched that has nothing to do. */
  readonly idleSeconds: number;
  /** Connections of the load generator. */
  readonly connections: number;
  /** Rows of the table that the unthrottled load updates. */
  readonly accounts: number;
}

/** Without and with a transaction held open at the source that was there before the work began and outlives it. */
export const CONDITIONS = ["plain", "old-transaction"] as const;
export type Condition = (typeof CONDITIONS)[number];

/** What a workload is run on. */
export interface Subject {
  /** Opens a transaction with an xid and a snapshot at the source, and resolves to what ends it. */
  holdTransaction(): Promise<() => Promise<void>>;
  /** Ends its processes and removes their data. */
  close(): Promise<void>;
}

/** Two databases and what carries rows from the one to the other. */
export interface Pair extends Subject {
  readonly source: Sql;
  readonly target: Sql;
  readonly sourceUrl: string;
  /** First of `count` ids that no run on this pair has used: no row ever meets the tombstone of an earlier round's. */
  freshIds(count: number): number;
  /** Of each process, by name; PostgreSQL's with all its backends. */
  usage(): Usage;
  /** Makes the next usage() tell the peaks from now on. */
  resetPeaks(): void;
  /** Stops what carries rows; the application goes on writing. */
  stopReplication(): Promise<void>;
  startReplication(): Promise<void>;
}

/** One database with an application and no replicator: what capture costs. */
export interface AppDatabase extends Subject {
  readonly sql: Sql;
  readonly url: string;
  freshIds(count: number): number;
}

/** A contour that is set up, to start a program at. */
export interface Startable extends Subject {
  /** Starts the compiled program with every role and resolves when /ready says 200. */
  start(): Promise<Started>;
}

export interface Started {
  /** From the start of the process to the first 200 of /ready. */
  readonly readyMs: number;
  usage(): Usage;
  /** SIGTERM, and its end. */
  stop(): Promise<void>;
}

export interface Subjects {
  readonly pair: Pair;
  readonly database: AppDatabase;
  readonly process: Startable;
}

export type SubjectName = keyof Subjects;

/** One that takes part. */
export interface Contestant<S extends Subject> {
  readonly name: string;
  readonly about: string;
  open(): Promise<S>;
}

/** A workload is one file of bench/workloads that exports one of these as `workload`. */
export interface WorkloadOn<On extends SubjectName> {
  /** For --only; the file's name. */
  readonly name: string;
  readonly about: string;
  readonly on: On;
  /** Who takes part unless --contestants says otherwise. */
  readonly contestants: readonly string[];
  /** Those of them that do in a --quick run; absent: the same. */
  readonly quickContestants?: readonly string[];
  /** Whether an old transaction can make a difference. */
  readonly conditions: readonly Condition[];
  /** Under which conditions it runs in a --quick run; absent: all of its own. */
  readonly quickConditions?: readonly Condition[];
  /** Does the work once and leaves the subject ready for the next time. @throws Error when a row is missing at the end */
  measure(subject: Subjects[On], size: Size): Promise<Measurement[]>;
}

export type Workload = { [On in SubjectName]: WorkloadOn<On> }[SubjectName];

/** A measurement and where it belongs. */
export interface Sample extends Measurement {
  readonly workload: string;
  readonly condition: Condition;
  readonly contestant: string;
  /**
   * `yardstick` runs are numbered from 0; run n of the contestant lies between the yardstick's runs n and n + 1, and is
   * compared with their mean.
   */
  readonly role: "contestant" | "yardstick";
  readonly round: number;
}

/** What the JSON file holds. */
export interface Result {
  readonly format: 1;
  /** ISO 8601, when the run began. */
  readonly date: string;
  /** Tiny sizes, no measurement: shows that everything works. */
  readonly quick: boolean;
  readonly rounds: number;
  readonly size: Size;
  readonly machine: Machine;
  /** Name of the yardstick by workload; workloads without one are absent. */
  readonly yardsticks: Readonly<Record<string, string>>;
  readonly samples: readonly Sample[];
  /** What could not be measured, and why: one line for each contestant that failed. */
  readonly failures: readonly string[];
}

export interface Machine {
  readonly processors: number;
  readonly model: string;
  readonly memory_gb: number;
  readonly kernel: string;
  /** One-minute load average when the run began: above a fraction of one, somebody else was at work. */
  readonly load_before: number;
  /** Of programs, by name. */
  readonly versions: Readonly<Record<string, string>>;
  /** Whether the replicators were the compiled program or the sources under Bun. */
  readonly program: "binary" | "sources";
}
