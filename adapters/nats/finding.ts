/** Lines of `check`, by severity. */
import type { BrokerFinding } from "../../src/core/broker.ts";

const finding =
  (severity: BrokerFinding["severity"]) =>
  (code: string, message: string, remedy: string): BrokerFinding => ({ severity, code, message, remedy });

export const info = finding("info");
export const warning = finding("warning");
export const blocking = finding("blocking");
