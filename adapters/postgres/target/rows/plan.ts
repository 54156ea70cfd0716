/** From batches to units of work: chunks of one table, kind and column set together, in the order they are applied. */
import type { Chunk, ChunkHeader } from "../../../../src/core/chunk.ts";
import { ReplicatorError } from "../../../../src/core/errors.ts";
import type { ApplyBatch } from "../../../../src/core/target_store.ts";
import { writtenIdentifier, writtenName } from "../../text.ts";
import { type Catalog, type Column, type TargetTable, tableKey } from "../catalog/catalog.ts";
import type { Shape } from "../sql_names.ts";
import { eventChunk } from "./event_chunk.ts";
import { jsonMembers } from "./json_members.ts";

export type UnitKind = "truncate" | "delete" | "upsert";

/** Where a unit's rows are: in a parameter, joined from fragments stored in this transaction, or parked in the inbox. */
export type Source =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "fragments"; readonly ledgerId: number; readonly first: number; readonly last: number }
  | { readonly kind: "inbox"; readonly ids: readonly string[] };

/** A chunk and where it came from. */
export interface Piece {
  readonly header: ChunkHeader;
  readonly batch: ApplyBatch;
}

export interface Unit {
  readonly kind: UnitKind;
  readonly shape: Shape;
  readonly pieces: readonly Piece[];
  readonly rows: number;
  readonly source: Source;
}

/** Chunks that cannot be tried at all: they are parked as they are. */
export interface Refused {
  readonly pieces: readonly Piece[];
  readonly rows: number;
  readonly source: Source;
  readonly code: string;
  readonly message: string;
}

export interface GroupPlan {
  /** Set-wise work: one unit per table, kind and column set. */
  readonly units: readonly Unit[];
  /** The same chunks in the order they were captured, neighbours of one kind together: the second try. */
  readonly captured: readonly Unit[];
  readonly refused: readonly Refused[];
  readonly rows: number;
  readonly bytes: number;
}

/** A chunk whose rows are complete: the text itself, or fragments already stored. */
export interface WholeChunk {
  readonly piece: Piece;
  readonly source: Source;
  /** Column names of the rows (INSERT, UPDATE, SNAPSHOT). */
  readonly columns: readonly string[];
}

/** One text parameter holds at most about this much. */
const PARAMETER_BYTES = 8_000_000;

/** The chunks of a batch, events included, with the columns of their rows. @throws ReplicatorError `wire.bad_row` */
export function wholeChunk(chunk: Chunk, batch: ApplyBatch): WholeChunk {
  const { data, old: _, ...header } = chunk;
  return { piece: { header, batch }, source: { kind: "text", text: data }, columns: rowColumns(chunk) };
}

export function chunksOf(batch: ApplyBatch, catalog: Catalog): readonly Chunk[] {
  if (batch.kind === "frames") return batch.chunks;
  return batch.events.filter((event) => !event.fragment).map((event) => eventChunk(event.body, catalog));
}

function rowColumns(chunk: Chunk): readonly string[] {
  if (chunk.operation === "DELETE" || chunk.operation === "TRUNCATE") return [];
  try {
    // All rows of a chunk have the same columns: one function has captured them.
    return [...jsonMembers(chunk.data).keys()];
  } catch (error) {
    throw new ReplicatorError({
      code: "wire.bad_row",
      message: `Read a row of ${chunk.schema}.${chunk.table} that is no JSON object`,
      retry: "never",
      fault: "environment",
      remedy: "Something else writes to this topic, or the replicators differ in version: run one version everywhere",
      cause: error,
    });
  }
}

/** Sorts chunks into units. `order`: what comes first, deletes or upserts (architecture §7.3 §7.7). */
export function planGroup(
  chunks: readonly WholeChunk[],
  catalog: Catalog,
  order: "deletes-first" | "upserts-first",
): GroupPlan {
  const merged = new Map<string, WholeChunk[]>();
  const refused: Refused[] = [];
  let rows = 0;
  let bytes = 0;
  const runs: { readonly key: string; readonly chunks: WholeChunk[] }[] = [];
  for (const chunk of chunks) {
    rows += chunk.piece.header.rows;
    bytes += chunk.source.kind === "text" ? chunk.source.text.length : 0;
    const refusal = refuse(chunk, catalog);
    if (refusal) {
      refused.push(refusal);
      continue;
    }
    const key = unitKey(chunk);
    const same = merged.get(key);
    if (same) same.push(chunk);
    else merged.set(key, [chunk]);
    const run = runs.at(-1);
    if (run?.key === key) run.chunks.push(chunk);
    else runs.push({ key, chunks: [chunk] });
  }
  const captured = runs.flatMap((run) => unitsOf(run.chunks, catalog));
  const units = [...merged.values()].flatMap((same) => unitsOf(same, catalog));
  return { units: inOrder(units, order), captured, refused, rows, bytes };
}

/** Truncates first; deletes children first, upserts parents first. */
export function inOrder(units: readonly Unit[], order: "deletes-first" | "upserts-first"): readonly Unit[] {
  const stage = (unit: Unit) =>
    unit.kind === "truncate" ? 0 : (unit.kind === "delete") === (order === "deletes-first") ? 1 : 2;
  const rank = (unit: Unit) => (unit.kind === "upsert" ? 1 : -1) * unit.shape.table.rank;
  return [...units].sort((a, b) => stage(a) - stage(b) || rank(a) - rank(b));
}

function unitKey({ piece, columns }: WholeChunk): string {
  const { schema, table, operation, stamp } = piece.header;
  return JSON.stringify([schema, table, unitKind(operation), stamp, columns]);
}

export function unitKind(operation: string): UnitKind {
  return operation === "DELETE" ? "delete" : operation === "TRUNCATE" ? "truncate" : "upsert";
}

/** One unit a parameter's worth of rows; fragments are units of their own. */
function unitsOf(chunks: readonly WholeChunk[], catalog: Catalog): readonly Unit[] {
  const units: Unit[] = [];
  let texts: string[] = [];
  let pieces: Piece[] = [];
  let size = 0;
  const add = (of: readonly Piece[], source: Source) => {
    const first = chunks[0] as WholeChunk;
    const table = catalog.tables.get(tableKey(first.piece.header.schema, first.piece.header.table)) as TargetTable;
    const ties = of.some((piece) => piece.header.operation === "SNAPSHOT");
    const kind = unitKind(first.piece.header.operation);
    units.push({
      kind,
      shape: shapeOf(table, kind, first, ties),
      pieces: of,
      rows: of.reduce((sum, piece) => sum + piece.header.rows, 0),
      source,
    });
  };
  const flush = () => {
    if (pieces.length > 0) add(pieces, { kind: "text", text: `[${texts.join(",")}]` });
    texts = [];
    pieces = [];
    size = 0;
  };
  for (const { piece, source } of chunks) {
    if (source.kind !== "text") {
      add([piece], source);
      continue;
    }
    if (size > 0 && size + source.text.length > PARAMETER_BYTES) flush();
    texts.push(source.text);
    pieces.push(piece);
    size += source.text.length;
  }
  flush();
  return units;
}

function shapeOf(table: TargetTable, kind: UnitKind, chunk: WholeChunk, ties: boolean): Shape {
  const theirs = chunk.piece.header.stamp;
  const stamp = theirs.map((json, place) => ({ json, column: table.columns.get(table.stamp[place] ?? "") as Column }));
  const key = table.key.map((column) => ({ json: column.name, column }));
  if (kind === "truncate") return { table, ties, columns: stamp };
  if (kind === "delete") return { table, ties, columns: [...key, ...stamp] };
  const columns = chunk.columns.map((json) => ({ json, column: columnFor(table, theirs, json) as Column }));
  return { table, ties, columns };
}

function columnFor(table: TargetTable, theirs: readonly string[], json: string): Column | undefined {
  const place = theirs.indexOf(json);
  return table.columns.get(place < 0 ? json : (table.stamp[place] ?? json));
}

function refuse(chunk: WholeChunk, catalog: Catalog): Refused | null {
  const { schema, table: name, key, stamp, rows, operation } = chunk.piece.header;
  const table = catalog.tables.get(tableKey(schema, name));
  const because = (code: string, message: string): Refused => ({
    pieces: [chunk.piece],
    rows,
    source: chunk.source.kind === "text" ? { kind: "text", text: `[${chunk.source.text}]` } : chunk.source,
    code,
    message,
  });
  if (!table) {
    return because("apply.unknown_table", `table ${writtenName(schema, name)} is not under replication here`);
  }
  if (operation === "TRUNCATE") return null;
  const ours = table.key.map((column) => column.name);
  if ([...key].sort().join("\u0000") !== [...ours].sort().join("\u0000")) {
    return because(
      "apply.key_differs",
      `the key of ${table.label} is (${ours.join(", ")}) here and (${key.join(", ")}) at the source`,
    );
  }
  if (operation === "DELETE") return null;
  const unknown = chunk.columns.find((json) => {
    const column = columnFor(table, stamp, json);
    return column === undefined || column.generated;
  });
  if (unknown !== undefined) {
    const there = columnFor(table, stamp, unknown) !== undefined;
    const how = there ? "is generated here and plain at the source" : "is missing here";
    return because("apply.unknown_column", `column ${writtenIdentifier(unknown)} of ${table.label} ${how}`);
  }
  const present = new Set(chunk.columns);
  const absent = [...key, ...stamp].find((column) => !present.has(column));
  return absent === undefined
    ? null
    : because("apply.bad_row", `the rows of ${table.label} carry no column ${JSON.stringify(absent)}`);
}
