/** The command line of the bench. */
import { nearest } from "../src/config/nearest.ts";
import { CONTESTANTS } from "./contestants.ts";
import { CONDITIONS, type Condition, type Size, type Workload } from "./types.ts";
import { UsageError } from "./usage_error.ts";

export interface BenchArguments {
  readonly help: boolean;
  readonly quick: boolean;
  /** Names of workloads; all unless --only says otherwise. */
  readonly workloads: readonly string[];
  /** Null: those that each workload names itself. */
  readonly contestants: readonly string[] | null;
  /** Null: those that each workload names itself. */
  readonly conditions: readonly Condition[] | null;
  readonly rounds: number;
  readonly size: Size;
  /** The replicators are the compiled program; start time is measured with it in any case. */
  readonly binary: boolean;
  /** Where the result goes. */
  readonly out: string;
  /** An earlier result to compare with. */
  readonly compare: string | null;
  /** A result to show instead of measuring. */
  readonly from: string | null;
  /** Write the figures of a result into docs/benchmarks.md; nothing is measured. */
  readonly writeDoc: boolean;
}

export const DEFAULT_FILE = "bench-result.json";

/** The sizes that floors and goals are meant for. */
export const FULL_SIZE: Size = {
  rows: 200_000,
  backlog: 1_000_000,
  rate: 1_000,
  seconds: 20,
  idleSeconds: 15,
  connections: 4,
  accounts: 100_000,
};

const QUICK_SIZE: Size = {
  rows: 2_000,
  backlog: 5_000,
  rate: 1_000,
  seconds: 1,
  idleSeconds: 1,
  connections: 4,
  accounts: 1_000,
};
const ROUNDS = { full: 3, quick: 1 };

const FLAGS = ["help", "quick", "binary", "write-doc"] as const;
const TEXTS = ["only", "contestants", "conditions", "out", "compare", "from"] as const;
const NUMBERS = ["rows", "backlog", "rate", "seconds", "idle-seconds", "connections", "accounts", "rounds"] as const;
const KNOWN: readonly string[] = [...FLAGS, ...TEXTS, ...NUMBERS].map((name) => `--${name}`);

/** @throws UsageError that lists everything wrong at once, each with the nearest name */
export function parseArguments(words: readonly string[], workloads: readonly Workload[]): BenchArguments {
  const problems: string[] = [];
  const given = readWords(words, problems);
  const flag = (name: (typeof FLAGS)[number]) => given.has(`--${name}`);
  const text = (name: (typeof TEXTS)[number]) => given.get(`--${name}`);
  const names = workloads.map(({ name }) => name);
  const list = <T extends string>(name: (typeof TEXTS)[number], known: readonly T[]) =>
    readList(`--${name}`, text(name), known, problems);
  const whole = (name: (typeof NUMBERS)[number], standard: number) =>
    readNumber(`--${name}`, given.get(`--${name}`), standard, problems);
  const quick = flag("quick");
  const standard = quick ? QUICK_SIZE : FULL_SIZE;
  const parsed: BenchArguments = {
    help: flag("help"),
    quick,
    workloads: list("only", names) ?? names,
    contestants: list("contestants", CONTESTANTS),
    conditions: list("conditions", CONDITIONS),
    rounds: whole("rounds", quick ? ROUNDS.quick : ROUNDS.full),
    size: {
      rows: whole("rows", standard.rows),
      backlog: whole("backlog", standard.backlog),
      rate: whole("rate", standard.rate),
      seconds: whole("seconds", standard.seconds),
      idleSeconds: whole("idle-seconds", standard.idleSeconds),
      connections: whole("connections", standard.connections),
      accounts: whole("accounts", standard.accounts),
    },
    binary: flag("binary"),
    out: text("out") ?? DEFAULT_FILE,
    compare: text("compare") ?? null,
    from: text("from") ?? (flag("write-doc") ? (text("out") ?? DEFAULT_FILE) : null),
    writeDoc: flag("write-doc"),
  };
  if (problems.length > 0) throw new UsageError(problems.join("\n"));
  return parsed;
}

/** `--name value` and `--name=value`. */
function readWords(words: readonly string[], problems: string[]): Map<string, string> {
  const given = new Map<string, string>();
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const [name = "", inline] = splitAtFirst(word);
    if (!KNOWN.includes(name)) {
      const what = name.startsWith("-") ? "Unknown flag" : "Unexpected word";
      problems.push(`${what} "${name}"${didYouMean(name, KNOWN)}`);
      // What follows an unknown flag may have been its value.
      if (inline === undefined && rest[0] !== undefined && !rest[0].startsWith("-")) rest.shift();
      continue;
    }
    if (given.has(name)) problems.push(`${name} is given twice`);
    if (FLAGS.some((flag) => name === `--${flag}`)) {
      if (inline !== undefined) problems.push(`${name} takes no value, found "${inline}"`);
      given.set(name, "");
      continue;
    }
    const value = inline ?? (rest[0]?.startsWith("--") ? undefined : rest.shift());
    if (value === undefined || value === "") problems.push(`${name} needs a value`);
    else given.set(name, value);
  }
  return given;
}

function splitAtFirst(word: string): [string, string?] {
  const at = word.indexOf("=");
  return at < 0 ? [word] : [word.slice(0, at), word.slice(at + 1)];
}

/** Null when it was not given. */
function readList<T extends string>(
  flag: string,
  text: string | undefined,
  known: readonly T[],
  problems: string[],
): T[] | null {
  if (text === undefined) return null;
  return text.split(",").flatMap((word): T[] => {
    const found = known.find((name) => name === word.trim());
    if (found !== undefined) return [found];
    problems.push(`${flag}: unknown "${word.trim()}"${didYouMean(word.trim(), known)}; known: ${known.join(", ")}`);
    return [];
  });
}

function readNumber(flag: string, text: string | undefined, standard: number, problems: string[]): number {
  if (text === undefined) return standard;
  if (/^[1-9]\d{0,9}$/.test(text)) return Number(text);
  problems.push(`${flag}: expected a whole number of 1 or more, found "${text}"`);
  return standard;
}

function didYouMean(word: string, known: readonly string[]): string {
  const meant = nearest(word, known);
  return meant === null ? "" : ` (did you mean ${meant}?)`;
}

export function helpText(workloads: readonly Workload[]): string {
  const width = Math.max(...workloads.map(({ name }) => name.length));
  return `bun run bench [flags]: the replicator against PostgreSQL's own logical replication, in the same run

  --quick               tiny sizes, one round: shows in minutes that everything works; its figures mean nothing
  --only LIST           workloads: ${workloads.map(({ name }) => name).join(", ")}
  --contestants LIST    ${CONTESTANTS.join(", ")}
  --conditions LIST     ${CONDITIONS.join(", ")} (a transaction held open at the source)
  --rounds N            how often each is measured, between two runs of the yardstick (${ROUNDS.full})
  --rows N              rows of a bulk statement (${FULL_SIZE.rows})
  --backlog N           rows of the backlog (${FULL_SIZE.backlog})
  --rate N              changes a second of the steady load (${FULL_SIZE.rate})
  --seconds N           how long a steady or an unthrottled load runs (${FULL_SIZE.seconds})
  --idle-seconds N      how long an idle process is watched (${FULL_SIZE.idleSeconds})
  --connections N       connections of the load generator (${FULL_SIZE.connections})
  --accounts N          rows that the unthrottled load updates (${FULL_SIZE.accounts})
  --binary              the replicators are the compiled program (start time: always)
  --out FILE            where the result goes (${DEFAULT_FILE})
  --from FILE           show this result instead of measuring
  --compare OLD.json    print the result beside an earlier one
  --write-doc           write the figures of --from (else --out) into docs/benchmarks.md; nothing is measured

Workloads:
${workloads.map(({ name, about }) => `  ${name.padEnd(width)}  ${about}`).join("\n")}`;
}
