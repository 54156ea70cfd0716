/** docs/planted_faults.md: what was planted, what caught it. */
import { CHECKS, COURSE } from "../checks/all.ts";
import type { Hunted } from "./hunt.ts";

export function pageOf(hunted: readonly Hunted[]): string {
  const rows = hunted.map(({ fault, failure, seed, histories, clean }) => {
    const others = clean ? `seed ${clean.seed}: ${clean.failure.check}` : "all pass";
    return `| ${fault.name} | ${fault.what} | ${failure?.check ?? "**not caught**"} | ${failure ? seed : ""} | ${histories} | ${others} |`;
  });
  const checks = [
    ...CHECKS.map(({ name, says }) => `* **${name}**: ${says}.`),
    ...Object.entries(COURSE).map(([name, says]) => `* **${name}**: ${says}.`),
  ];
  return `# Planted faults

Written by \`make planted\`: each line breaks one rule of the engine's design, in the model or in the wiring of the simulation,
and runs histories from seed 1 until a check fails. Then the same histories run without the fault. One of them again, with its
trace: \`FAULT='no floor' SEED=… bun tests/simulation/run.ts\`.

| fault | what is wrong | caught by | seed | histories | the same without it |
|---|---|---|---|---|---|
${rows.join("\n")}

The checks:

${checks.join("\n")}
`;
}
