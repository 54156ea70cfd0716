/** A member of a consumer group in a process of its own, to be killed. Says each claim and each message on a line. */
import { createKafkaBroker } from "../../adapters/kafka/broker.ts";
import type { Channel } from "../../src/core/channel.ts";

const [bootstrap, group, channelJson] = process.argv.slice(2);
if (!bootstrap || !group || !channelJson) throw new Error("Expected: bootstrap group channel");
const channel = JSON.parse(channelJson) as Channel;
const broker = createKafkaBroker({ brokers: [bootstrap] });
const never = new AbortController().signal;
const feed = broker.feeds([channel])[0];
if (!feed) throw new Error("No feed");
for await (const claim of broker.claims(feed, group, never)) {
  process.stdout.write(`claim ${claim.partition}\n`);
}
