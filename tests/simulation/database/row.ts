/** A row of the model, and its text on the wire: one JSON object a line, as capture writes it. */
import { compareBytes, type Stamp, type StampedRow } from "../../../src/core/stamp.ts";

export type Values = Readonly<Record<string, string | null>>;

export class Row implements StampedRow {
  readonly key: string;
  readonly stamp: Stamp;
  readonly values: Values;
  #text: string | null = null;

  constructor(key: string, stamp: Stamp, values: Values) {
    this.key = key;
    this.stamp = stamp;
    this.values = values;
  }

  /** The values in the order of their names: the last tie-break. */
  get text(): string {
    this.#text ??= JSON.stringify(Object.entries(this.values).sort(([a], [b]) => compareBytes(a, b)));
    return this.#text;
  }

  toString(): string {
    const values = Object.entries(this.values).map(
      ([name, value]) => `${name}=${value === null ? "-" : value.slice(0, 12)}`,
    );
    return `${this.key} ${stampText(this.stamp)} ${values.join(" ")}`;
  }
}

export function stampText({ version, updatedAt, updatedBy }: Stamp): string {
  return `v${version}@${updatedBy === "" ? "-" : updatedBy}/${updatedAt}`;
}

/** What a queue row carries: a row, the stamp of a deletion, or of a floor (key ""). */
export interface Line {
  /** Queue id: names the change whatever frame or event brings it. */
  readonly id: number;
  readonly key: string;
  readonly stamp: Stamp;
  readonly values: Values;
}

export function encodeLine({ id, key, stamp, values }: Line): string {
  const { version, updatedAt, updatedBy } = stamp;
  return JSON.stringify([id, key, String(version), String(updatedAt), updatedBy, values]);
}

/** Lines joined as in a chunk. */
export function decodeLines(data: string): Line[] {
  const parsed: [number, string, string, string, string, Values][] = JSON.parse(`[${data}]`);
  return parsed.map(([id, key, version, updatedAt, updatedBy, values]) => ({
    id,
    key,
    stamp: { version: BigInt(version), updatedAt: BigInt(updatedAt), updatedBy },
    values,
  }));
}
