/** What the properties are fed with: few values, so that ties are common, and hostile ones. */
import fc from "fast-check";
import type { ConflictPolicy, Stamp, StampedRow } from "../../src/core/stamp.ts";

/** Well-formed text of any kind: astral code points, control characters but NUL, quotes, newlines. */
export const hostileText: fc.Arbitrary<string> = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        "",
        "a",
        '"',
        "\\",
        "\n",
        "\r\n",
        "\t",
        "\u0001",
        "\u001f",
        "\u007f",
        "\u0085",
        "\u2028",
        "\ufeff",
      ),
      fc.constantFrom(
        "🦔",
        "\u{10ffff}",
        "\ud7ff",
        "\ue000",
        "\uffff",
        "é",
        "e\u0301",
        "},\n{",
        "replicator-part",
        ";",
        ":",
      ),
      fc.string({ unit: "binary", maxLength: 4 }),
    ),
    { maxLength: 8 },
  )
  .map((pieces) => pieces.join("").replaceAll("\u0000", ""))
  .filter((text) => text.isWellFormed());

export const policy = fc.constantFrom<ConflictPolicy>("version", "latest");

/** Names of contours, few. */
export const contour = fc.constantFrom("a", "b", "active", "zone-2");

export const text = fc.oneof(
  fc.constantFrom("", "a", "Zone", "active", "\uffff", "🦔", "\ue000", "\ud7ff"),
  fc.string({ unit: "binary", maxLength: 6 }),
);

/** Of any row on the wire. */
export const stamp: fc.Arbitrary<Stamp> = fc.record({
  version: fc.oneof(fc.bigInt(0n, 2n), fc.bigInt(0n, 2n ** 63n - 1n)),
  updatedAt: fc.oneof(fc.bigInt(0n, 2n), fc.bigInt(-(2n ** 62n), 2n ** 62n)),
  updatedBy: text,
});

export const row: fc.Arbitrary<StampedRow> = fc.record({ stamp, text });

/** Stamps that are often equal, or nearly. */
export const closeStamp: fc.Arbitrary<Stamp> = fc.record({
  version: fc.bigInt(0n, 3n),
  updatedAt: fc.bigInt(0n, 3n),
  updatedBy: fc.constantFrom("", "a", "b"),
});

/** Rows that often differ in their text alone. */
export const closeRow: fc.Arbitrary<StampedRow> = fc.record({
  stamp: closeStamp,
  text: fc.constantFrom("x", "y", "z"),
});
