/** The channels of a contour as the configuration lays them out (architecture §5); all contours are configured alike. */
import { type Channel, DEFAULT_CHANNEL } from "../core/channel.ts";
import type { Config } from "./config.ts";
import { tablesOf } from "./tables.ts";

/** The default channel, and one for each topic named. Partitions are for topics, and only Kafka has a setting for them. */
export function channelsOf(
  config: Pick<Config, "broker" | "kafka" | "critical_tables" | "non_critical_tables">,
  contour: string,
): readonly Channel[] {
  const partitions = config.broker === "kafka" ? config.kafka.topic.partitions : 1;
  const topics = new Set(tablesOf(config).flatMap(({ topic }) => (topic === undefined ? [] : [topic])));
  const own = [...topics].map((name): Channel => ({ contour, name, kind: "events", partitions }));
  return [{ contour, name: DEFAULT_CHANNEL, kind: "frames", partitions: 1 }, ...own];
}
