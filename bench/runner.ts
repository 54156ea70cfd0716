/** Opens who takes part and lets each alternate with its yardstick. */
import { FIELDS, type Field } from "./contestants.ts";
import type {
  Condition,
  Contestant,
  Sample,
  Size,
  Subject,
  SubjectName,
  Subjects,
  Workload,
  WorkloadOn,
} from "./types.ts";

export interface RunOptions {
  readonly workloads: readonly Workload[];
  /** Null: those that each workload names itself. */
  readonly contestants: readonly string[] | null;
  readonly conditions: readonly Condition[] | null;
  readonly rounds: number;
  readonly size: Size;
  readonly quick: boolean;
  /** For people. */
  say(line: string): void;
  /** Called after each workload with what it has brought. */
  onSamples(samples: readonly Sample[]): void;
  /** Called when a contestant has failed; the rest of its workloads is left out, the others go on. */
  onFailure(message: string): void;
}

/** Everything that is asked for. What fails is told, and the run goes on with the next contestant. */
export async function runBench(options: RunOptions): Promise<void> {
  await runField("database", FIELDS.database, options);
  await runField("pair", FIELDS.pair, options);
  await runField("process", FIELDS.process, options);
}

/** Who takes part in a workload, by name. */
export function takingPart(workload: Workload, options: Pick<RunOptions, "contestants" | "quick">): readonly string[] {
  const standard = (options.quick ? workload.quickContestants : undefined) ?? workload.contestants;
  return options.contestants ?? standard;
}

/** The conditions a workload is run under. */
export function conditionsOf(
  workload: Workload,
  options: Pick<RunOptions, "conditions" | "quick">,
): readonly Condition[] {
  const standard = (options.quick ? workload.quickConditions : undefined) ?? workload.conditions;
  return options.conditions?.filter((condition) => workload.conditions.includes(condition)) ?? standard;
}

/** Names of all contestants that a run would open: of each workload those that its field has. */
export function opening(options: Pick<RunOptions, "workloads" | "contestants" | "conditions" | "quick">): Set<string> {
  return new Set(
    options.workloads.flatMap((workload) => {
      if (conditionsOf(workload, options).length === 0) return [];
      const names = FIELDS[workload.on].contestants.map(({ name }) => name);
      return names.filter((name) => takingPart(workload, options).includes(name));
    }),
  );
}

/** Opens one contestant after the other, with the yardstick beside them, and runs the workloads of their kind. */
export async function runField<On extends SubjectName>(
  on: On,
  field: Field<Subjects[On]>,
  options: RunOptions,
): Promise<void> {
  const workloads = options.workloads.filter((workload): workload is Workload & WorkloadOn<On> => workload.on === on);
  const opened = new Set<Subject>();
  const open = async (contestant: Contestant<Subjects[On]>) => {
    options.say(`opening ${contestant.name}: ${contestant.about}`);
    const subject = await contestant.open();
    opened.add(subject);
    return subject;
  };
  const closeAll = async () => {
    const closing = [...opened];
    opened.clear();
    await Promise.allSettled(closing.map((subject) => subject.close()));
  };
  try {
    let yardstick: Subjects[On] | null = null;
    for (const contestant of field.contestants) {
      const mine = workloads.filter(
        (workload) =>
          takingPart(workload, options).includes(contestant.name) && conditionsOf(workload, options).length > 0,
      );
      if (mine.length === 0) continue;
      try {
        if (field.yardstick) yardstick ??= await open(field.yardstick);
        const subject = await open(contestant);
        for (const workload of mine) {
          await runWorkload(workload, { name: contestant.name, subject, yardstick }, options);
        }
        opened.delete(subject);
        await subject.close();
      } catch (error) {
        options.onFailure(`${contestant.name}: ${error instanceof Error ? error.message : String(error)}`);
        // In what state it has left them nobody knows: the next contestant begins with a new yardstick.
        yardstick = null;
        await closeAll();
      }
    }
  } finally {
    await closeAll();
  }
}

export interface Match<S extends Subject> {
  readonly name: string;
  readonly subject: S;
  readonly yardstick: S | null;
}

/** All rounds of a workload, under each of its conditions. @throws Error that says where it failed */
export async function runWorkload<On extends SubjectName>(
  workload: Workload & WorkloadOn<On>,
  match: Match<Subjects[On]>,
  options: RunOptions,
): Promise<void> {
  const subjects = [match.subject, ...(match.yardstick ? [match.yardstick] : [])];
  if (!options.quick) {
    options.say(`${workload.name}: warming up`);
    for (const subject of subjects) await workload.measure(subject, warmUpOf(options.size));
  }
  for (const condition of conditionsOf(workload, options)) {
    // Held through all rounds: what a long transaction does to tables adds up.
    const held = condition === "old-transaction" ? await Promise.all(subjects.map((one) => one.holdTransaction())) : [];
    try {
      options.onSamples(await rounds(workload, condition, match, options));
    } finally {
      await Promise.allSettled(held.map((release) => release()));
    }
  }
}

/** Yardstick, contestant, yardstick, contestant, … yardstick. A quick run does without the last one. */
async function rounds<On extends SubjectName>(
  workload: Workload & WorkloadOn<On>,
  condition: Condition,
  { name, subject, yardstick }: Match<Subjects[On]>,
  options: RunOptions,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  const run = async (role: Sample["role"], who: Subjects[On], round: number) => {
    const whom = role === "contestant" ? name : "its yardstick";
    options.say(`${workload.name}, ${condition}: ${whom}, round ${round + 1}`);
    try {
      const measured = await workload.measure(who, options.size);
      const place = { workload: workload.name, condition, contestant: name, role, round };
      samples.push(...measured.map((measurement) => ({ ...place, ...measurement })));
    } catch (error) {
      throw new Error(`${workload.name}, ${condition}, ${whom}: ${error instanceof Error ? error.message : error}`, {
        cause: error,
      });
    }
  };
  for (let round = 0; round < options.rounds; round++) {
    if (yardstick) await run("yardstick", yardstick, round);
    await run("contestant", subject, round);
  }
  if (yardstick && !options.quick) await run("yardstick", yardstick, options.rounds);
  return samples;
}

/** Small, and not recorded: connections, caches and compilers have seen the work before it counts. */
function warmUpOf(size: Size): Size {
  const tenth = (value: number) => Math.max(1, Math.ceil(value / 10));
  return {
    ...size,
    rows: tenth(size.rows),
    backlog: tenth(size.backlog),
    seconds: tenth(size.seconds),
    idleSeconds: 1,
  };
}
