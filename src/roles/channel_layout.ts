/** The channels of this contour: recorded as its layout, and those that are still to be emptied. */
import { channelsOf } from "../config/channels.ts";
import { channelNameOf, tablesOf } from "../config/tables.ts";
import { type Channel, channelLabel } from "../core/channel.ts";
import type { SourceStore } from "../core/source_store.ts";
import type { Engine } from "./engine.ts";

export interface Channels {
  /** As the configuration lays them out. */
  readonly configured: readonly Channel[];
  /** In no layout any more, with changes that are not confirmed (I5). */
  readonly departed: readonly Channel[];
}

/** @throws ReplicatorError `source.table_unknown` when a configured table is not under replication */
export async function layOutChannels(
  { config, logger }: Pick<Engine, "config" | "logger">,
  store: SourceStore,
): Promise<Channels> {
  const contour = config.service.contour;
  const configured = channelsOf(config, contour);
  await store.setLayout(
    configured.map(({ name, partitions }) => ({
      name,
      partitions,
      tables: tablesOf(config)
        .filter((table) => channelNameOf(table) === name)
        .map((table) => table.name),
    })),
  );
  const departed = (await store.departedChannels()).map((channel) => ({
    ...channel,
    contour,
    kind: "events" as const,
  }));
  for (const channel of departed) {
    logger.info(
      { channel: channelLabel(channel) },
      "no table names this topic any more; what was captured for it is sent first",
    );
  }
  return { configured, departed };
}
