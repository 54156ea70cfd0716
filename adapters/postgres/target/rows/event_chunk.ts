/** An event's JSON body (interface §4) as a chunk of one row, cut out as text: no value is read (I7). */
import type { Chunk, Operation } from "../../../../src/core/chunk.ts";
import { ReplicatorError } from "../../../../src/core/errors.ts";
import { type Catalog, tableKey } from "../catalog/catalog.ts";
import { DEFAULT_STAMP, eventStamp } from "./event_stamp.ts";
import { jsonMembers, type Member } from "./json_members.ts";

const OPERATIONS: readonly string[] = ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "SNAPSHOT"] satisfies Operation[];

/** @throws ReplicatorError `wire.bad_event` */
export function eventChunk(body: string, catalog: Catalog): Chunk {
  try {
    return parse(body, catalog);
  } catch (error) {
    if (error instanceof ReplicatorError) throw error;
    throw badEvent("does not parse", error);
  }
}

function parse(body: string, catalog: Catalog): Chunk {
  const members = jsonMembers(body);
  const source = slice(body, members, "source");
  const inside = jsonMembers(source);
  const operation = name(body, members, "operation");
  if (!isOperation(operation)) throw badEvent(`has operation ${JSON.stringify(operation)}`);
  const schema = name(body, members, "schema");
  const table = name(body, members, "table");
  const row = members.get("data");
  let carried: ReadonlyMap<string, Member> | null = null;
  const carries = (column: string) => {
    if (row) carried ??= jsonMembers(body, row.start);
    return carried?.has(column) ?? false;
  };
  const said = members.has("stamp") ? slice(body, members, "stamp") : null;
  const stamp = eventStamp(said, catalog.tables.get(tableKey(schema, table))?.stamp, carries);
  const stampText = stamp
    .map((column, place) => `${JSON.stringify(column)}:${slice(body, members, DEFAULT_STAMP[place] ?? "")}`)
    .join(",");
  const key = operation === "TRUNCATE" ? "{}" : slice(body, members, "key");
  return {
    schema,
    table,
    operation,
    transaction: name(source, inside, "transaction"),
    first_queue_id: name(source, inside, "queue_id"),
    captured_at: name(source, inside, "captured_at"),
    rows: 1,
    key: [...jsonMembers(key).keys()],
    stamp,
    data: rowText(operation, body, members, key, stampText),
    old: null,
  };
}

function rowText(
  operation: Operation,
  body: string,
  members: ReadonlyMap<string, Member>,
  key: string,
  stampText: string,
): string {
  if (operation === "TRUNCATE") return `{${stampText}}`;
  if (operation === "DELETE") return `${key.slice(0, key.lastIndexOf("}"))},${stampText}}`;
  return slice(body, members, "data");
}

function slice(text: string, members: ReadonlyMap<string, Member>, member: string): string {
  const place = members.get(member);
  if (!place) throw badEvent(`has no "${member}"`);
  return text.slice(place.start, place.end);
}

/** A name, an id or a time: never a row's value. */
function name(text: string, members: ReadonlyMap<string, Member>, member: string): string {
  const value: unknown = JSON.parse(slice(text, members, member));
  if (typeof value !== "string") throw badEvent(`has a "${member}" that is no text`);
  return value;
}

function isOperation(text: string): text is Operation {
  return OPERATIONS.includes(text);
}

function badEvent(what: string, cause?: unknown): ReplicatorError {
  return new ReplicatorError({
    code: "wire.bad_event",
    message: `Read an event that ${what}`,
    retry: "never",
    fault: "environment",
    remedy: "Something else writes to this topic, or the replicators differ in version: run one version everywhere",
    cause,
  });
}
