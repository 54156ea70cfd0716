/** Kafka with what it depends on, from Maven Central. It runs with plain `java -cp`. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { kafkaLibs, place, run, say, which } from "./cache.mjs";
import { KAFKA, LOG4J, MAVEN_DEPENDENCY_PLUGIN } from "./versions.mjs";

const POM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>local</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${KAFKA}</version></dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>${LOG4J}</version>
    </dependency>
  </dependencies>
</project>
`;

/** @returns why Kafka cannot be had here, or undefined when it is in the cache */
export function fetchKafka() {
  if (!which("java")) return "java is not installed (a JDK 17: apt-get install openjdk-17-jre-headless)";
  const libs = kafkaLibs();
  if (existsSync(libs)) return undefined;
  if (!which("mvn")) return "Kafka is fetched with Maven, and mvn is not installed (apt-get install maven)";
  say(`fetching Kafka ${KAFKA} (Maven Central: org.apache.kafka:kafka_2.13)`);
  place(dirname(libs), (draft) => {
    mkdirSync(join(draft, "libs"));
    writeFileSync(join(draft, "pom.xml"), POM);
    const goal = `org.apache.maven.plugins:maven-dependency-plugin:${MAVEN_DEPENDENCY_PLUGIN}:copy-dependencies`;
    run("mvn", ["-B", "-q", goal, `-DoutputDirectory=${join(draft, "libs")}`, "-DincludeScope=runtime"], {
      cwd: draft,
    });
  });
  return undefined;
}
