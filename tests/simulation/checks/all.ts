/** The checks of every history. To add one: write it beside these and name it here. */
import type { Check } from "./check.ts";
import { accounted, acknowledged, immutable, once, whole } from "./flow.ts";
import { constraints, equal, sourceState, sum } from "./state.ts";

export const CHECKS: readonly Check[] = [
  immutable,
  acknowledged,
  once,
  whole,
  sum,
  constraints,
  sourceState,
  accounted,
  equal,
];

/** What the course of a history itself tells. */
export const COURSE = {
  alive: "No process of the engine ends by itself (I8)",
  stops: "A process that is asked to stop has ended within the time of a stop",
  heals: "After the world has healed everything comes to rest in time, nothing stays parked or stuck",
  model: "The model's own sessions do not break",
  quiet: "After the world has healed overrides come to an end",
} as const;
