/** Direct mode seen as two contours: the configuration of the target database. */
import type { Config } from "./config.ts";

const LONGEST_NAME = 32;
const SUFFIX = "-target";

/** Name of the target's contour where none is configured; '' where that of the source is not known. */
export function targetContour(contour: string): string {
  return contour === "" ? "" : contour.slice(0, LONGEST_NAME - SUFFIX.length) + SUFFIX;
}

/**
 * The same configuration with the target where the database was, under its contour's name; null where no target is
 * configured. Names of stamp columns and thin names are those of the source.
 */
export function targetConfig(config: Config): Config | null {
  const { target, database, service } = config;
  if (!target) return null;
  const { contour = targetContour(service.contour), ...address } = target;
  const { compat_schema, columns } = database;
  return { ...config, database: { ...address, compat_schema, columns }, service: { ...service, contour } };
}
