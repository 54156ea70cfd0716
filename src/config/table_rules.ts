/** What the schema cannot say of the two lists of tables: names, double entries, topics. */
import { parseTableName } from "../core/table_name.ts";
import type { RawMap } from "./raw.ts";
import { rawAt } from "./raw.ts";
import { periodicTopic } from "./tables.ts";

interface TableProblem {
  readonly path: string;
  readonly message: string;
}

interface Entry {
  readonly list: string;
  readonly path: string;
  readonly name: string;
  readonly topic: string | null;
  readonly stamps: readonly string[];
}

const LISTS = ["critical_tables", "non_critical_tables"];
const STAMPS = ["version", "updated_at", "updated_by"];

export function tableProblems(root: RawMap): readonly TableProblem[] {
  const entries = LISTS.flatMap((list) => entriesOf(root, list));
  return [...names(entries), ...topics(entries), ...stampColumns(entries)];
}

function entriesOf(root: RawMap, list: string): readonly Entry[] {
  const node = rawAt(root, [list]);
  if (node?.kind !== "list") return [];
  return node.items.flatMap((item, at) => {
    if (item.kind !== "map") return [];
    const textOf = (steps: readonly string[]) => {
      const found = rawAt(item, [...steps]);
      return found?.kind === "text" ? found.text : null;
    };
    const name = textOf(["name"]);
    if (name === null) return [];
    const stamps = STAMPS.flatMap((key) => textOf(["columns", key]) ?? []);
    return [{ list, path: `${list}[${at}]`, name, topic: textOf(["topic"]), stamps }];
  });
}

function names(entries: readonly Entry[]): readonly TableProblem[] {
  const seen = new Map<string, Entry>();
  return entries.flatMap((entry) => {
    const path = `${entry.path}.name`;
    const parsed = parseTableName(entry.name);
    if (!parsed) {
      const message = `found "${entry.name}", expected a table as SQL writes it: users, sales.orders, "My Schema"."Order"`;
      return [{ path, message }];
    }
    const before = seen.get(JSON.stringify(parsed));
    seen.set(JSON.stringify(parsed), entry);
    if (!before) return [];
    if (before.list === entry.list) return [{ path, message: `names "${entry.name}" a second time` }];
    const message = `names "${entry.name}", which stands in ${before.path} as well: a table is either captured or polled`;
    return [{ path, message }];
  });
}

/** A polled table has its channel alone; tables that are captured may share one. */
function topics(entries: readonly Entry[]): readonly TableProblem[] {
  const seen = new Map<string, Entry>();
  return entries.flatMap((entry) => {
    const polled = entry.list === "non_critical_tables";
    const topic = entry.topic ?? (polled ? periodicTopic(entry.name) : null);
    if (topic === null) return [];
    const before = seen.get(topic);
    seen.set(topic, entry);
    if (!before || (!polled && before.list === entry.list)) return [];
    const message = `is "${topic}", which ${before.path} ("${before.name}") has as well: a polled table needs a topic of its own`;
    return [{ path: `${entry.path}.topic`, message }];
  });
}

function stampColumns(entries: readonly Entry[]): readonly TableProblem[] {
  return entries
    .filter(({ stamps }) => new Set(stamps).size < stamps.length)
    .map(({ path, stamps }) => ({ path: `${path}.columns`, message: `names one column twice: ${stamps.join(", ")}` }));
}
