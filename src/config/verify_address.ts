/** The database that `verify` means: this contour's own (null), the target of direct mode, or the one at a URL. */
import type { Config } from "./config.ts";
import { databaseAddress } from "./database_address.ts";
import { targetConfig } from "./target.ts";

/** Stands for config.target. */
export const TARGET = "target";

/** Address and schema in the words of the postgres adapter. */
export function verifyAddress(config: Config, against: string | null) {
  if (against !== null && against !== TARGET) return { url: against, schema: config.database.schema };
  const own = against === TARGET ? (targetConfig(config) ?? config) : config;
  return { ...databaseAddress(own), schema: own.database.schema };
}
