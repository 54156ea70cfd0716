import manifest from "../../package.json" with { type: "json" };

/** Of the program, as released. */
export const VERSION: string = manifest.version;
