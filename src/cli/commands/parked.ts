/** `replicator parked list | show | retry | discard`. */
import type { Command } from "commander";
import type { Admin, ParkedChange, ParkedOutcome, ParkedSelection } from "../../core/admin.ts";
import { type Context, define } from "../context.ts";
import { inputError, type Session } from "../session.ts";
import { withApplying } from "../sites.ts";
import { drawTable } from "../table.ts";

const NEEDS = { database: true };
const MOST = 1_000;
/** A running consumer looks twice a second. */
const OUTCOME_PATIENCE_MS = 10_000;
const OUTCOME_EVERY_MS = 250;
const MOST_LINES = 50;

export function parkedCommand(program: Command, context: Context): void {
  const parked = program.command("parked").description("Changes that could not be applied yet, and dead letters");

  const list = parked
    .command("list")
    .description("Parked changes, with what unblocks them; each is tried again at its next attempt")
    .option("--table <table>", "Only those of one table")
    .option("--dead", "Only dead letters: they have used up their attempts and wait for a person")
    .option("--json", "One JSON array");
  define(list, async () =>
    withApplying({ ...context, command: list, needs: NEEDS }, (session, admin) => listChanges(session, admin, list)),
  );

  const show = parked
    .command("show")
    .argument("<id>", "As list shows it")
    .description("Everything about one: the row, the error, what unblocks it")
    .option("--json", "One JSON object");
  define(show, async () =>
    withApplying({ ...context, command: show, needs: NEEDS }, async ({ signal, terminal }, admin) => {
      const [id = ""] = idsOf(show.args);
      const change = await admin.parkedDetail(id, signal);
      if (show.opts().json === true) terminal.out(JSON.stringify(change, null, 2));
      else terminal.out(drawFacts(Object.entries(change)));
      return 0;
    }),
  );

  const retry = parked
    .command("retry")
    .argument("[id...]", "As list shows them")
    .description("Make changes due now, dead letters too, and say what becomes of them")
    .option("--table <table>", "All of one table")
    .option("--all", "All there are")
    .option("--json", "One JSON array");
  define(retry, async () =>
    withApplying({ ...context, command: retry, needs: NEEDS }, (session, admin) => retryChanges(session, admin, retry)),
  );

  const discard = parked
    .command("discard")
    .argument("<id...>", "As list shows them")
    .description("Throw changes away for good; conflict_log keeps them")
    .option("--yes", "Do not ask")
    .option("--json", "One JSON array");
  define(discard, async () =>
    withApplying({ ...context, command: discard, needs: NEEDS }, (session, admin) =>
      discardAll(session, admin, discard),
    ),
  );
}

async function listChanges({ signal, terminal }: Session, admin: Admin, command: Command): Promise<number> {
  const { table, dead, json } = command.opts();
  const filter = { table: typeof table === "string" ? table : null, dead: dead === true };
  const changes = await admin.parked(filter, MOST, signal);
  if (json === true) {
    terminal.out(JSON.stringify(changes, null, 2));
    return 0;
  }
  const heads = ["id", "from", "table", "operation", "record", "state", "attempts", "next attempt", "age", "error"];
  terminal.out(drawTable([...heads, "remedy"], changes.map(cells)));
  if (changes.length === 0) terminal.say(filter.dead ? "There are no dead letters" : "Nothing is parked");
  if (changes.length === MOST) terminal.say(`Only the first ${MOST} are shown`);
  return 0;
}

function cells(one: ParkedChange): readonly string[] {
  const next = one.next_attempt_at ?? (one.status === "dead" ? "never" : "with its like");
  const place = [String(one.id), one.source_contour, one.table, one.operation, one.record_id ?? ""];
  const state = [one.status, String(one.attempts), next, age(one.age_seconds)];
  return [...place, ...state, one.error_code, one.remedy ?? one.error];
}

function age(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

async function retryChanges(session: Session, admin: Admin, command: Command): Promise<number> {
  const { signal, terminal } = session;
  const ids = await admin.retryParked(selectionOf(command), signal);
  const outcomes = ids.length === 0 ? [] : await waitForOutcomes(session, admin, ids);
  if (command.opts().json === true) {
    terminal.out(JSON.stringify(outcomes, null, 2));
    return 0;
  }
  for (const one of outcomes.slice(0, MOST_LINES)) terminal.out(`${one.id}  ${wordsOf(one)}`);
  const count = (outcome: ParkedOutcome["outcome"]) => outcomes.filter((one) => one.outcome === outcome).length;
  const still = count("parked") + count("dead");
  terminal.say(`${ids.length} made due: ${count("resolved")} applied or superseded, ${still} still parked`);
  if (count("due") > 0)
    terminal.say(`${count("due")} not tried yet: the next consumer that runs will (replicator run)`);
  return 0;
}

function selectionOf(command: Command): ParkedSelection {
  const { table, all } = command.opts();
  const ways = [command.args.length > 0, table !== undefined, all === true].filter(Boolean).length;
  if (ways !== 1) {
    const found = ways === 0 ? "nothing was named" : "more than one of ids, --table and --all was given";
    throw inputError(
      "parked.bad_selection",
      `Cannot retry: ${found}`,
      "replicator parked retry ID… | --table T | --all",
    );
  }
  if (all === true) return "all";
  return typeof table === "string" ? { table } : { ids: idsOf(command.args) };
}

async function waitForOutcomes(
  { signal }: Session,
  admin: Admin,
  ids: readonly string[],
): Promise<readonly ParkedOutcome[]> {
  const until = performance.now() + OUTCOME_PATIENCE_MS;
  for (;;) {
    const outcomes = await admin.parkedOutcomes(ids, signal);
    if (performance.now() >= until || outcomes.every(({ outcome }) => outcome !== "due")) return outcomes;
    await new Promise((resolve) => setTimeout(resolve, OUTCOME_EVERY_MS));
    signal.throwIfAborted();
  }
}

function wordsOf({ outcome, error }: ParkedOutcome): string {
  if (outcome === "resolved") return "applied or superseded";
  if (outcome === "due") return "due, not tried yet";
  return `still ${outcome === "dead" ? "a dead letter" : "parked"}: ${error ?? ""}`;
}

async function discardAll(session: Session, admin: Admin, command: Command): Promise<number> {
  const { terminal, signal, logger } = session;
  const ids = idsOf(command.args);
  const { yes, json } = command.opts();
  if (yes !== true) {
    const changes = await Promise.all(ids.map((id) => admin.parkedDetail(id, signal)));
    for (const one of changes)
      terminal.say(
        `${one.id}  ${one.operation} of ${one.table} ${one.record_id ?? ""} from ${one.source_contour}: ${one.error}`,
      );
    terminal.say("What is discarded is missing here until its row changes again; conflict_log keeps it.");
    const answer = await terminal.ask(`Discard ${ids.length === 1 ? "it" : `these ${ids.length}`}? [y/N] `, signal);
    if (answer === null) {
      const remedy = "Add --yes, or run it on a terminal to be asked";
      throw inputError(
        "parked.not_confirmed",
        "Discarding needs a confirmation, and there is no terminal to ask on",
        remedy,
      );
    }
    if (!/^y(es)?$/i.test(answer.trim())) {
      terminal.say("Nothing was discarded");
      return 0;
    }
  }
  const discarded = await admin.discardParked(ids, signal);
  for (const { id, table, record_id, source_contour, conflict_id } of discarded)
    logger.warn(
      { parked: id, table, record: record_id, source: source_contour, conflict: conflict_id },
      "parked change discarded",
    );
  if (json === true) terminal.out(JSON.stringify(discarded, null, 2));
  else
    for (const one of discarded) terminal.out(`${one.id}  discarded; line ${one.conflict_id} of conflict_log keeps it`);
  return 0;
}

/** @throws ReplicatorError `parked.bad_id` */
function idsOf(args: readonly string[]): readonly string[] {
  const bad = args.find((arg) => !/^\d{1,18}$/.test(arg));
  if (bad === undefined) return [...new Set(args.map((arg) => String(BigInt(arg))))];
  throw inputError(
    "parked.bad_id",
    `"${bad}" is no id of a parked change, expected a number`,
    "replicator parked list shows them",
  );
}

function drawFacts(facts: readonly (readonly [string, unknown])[]): string {
  const width = Math.max(...facts.map(([name]) => name.length));
  const shown = (value: unknown) => (value === null ? "" : typeof value === "string" ? value : JSON.stringify(value));
  return facts.map(([name, value]) => `${name.padEnd(width)}  ${shown(value)}`.trimEnd()).join("\n");
}
