/** Checks of what travels: every change once, whole, in messages that never change. */
import { channelLabel } from "../../../src/core/channel.ts";
import { HEADER } from "../../../src/core/message.ts";
import type { Outcome } from "../database/incoming.ts";
import type { Check } from "./check.ts";

export const accounted: Check = {
  name: "accounted",
  says: "Every captured change is applied, beaten or overridden at every other contour (I5)",
  observe: ({ databases }, fail) => {
    const outcomes = new Map<string, Outcome>();
    return {
      applied: ({ contour, outcomes: some }) => {
        for (const [{ event }, outcome] of some) outcomes.set(`${contour} ${event}`, outcome);
      },
      settled: (contour, { event }, outcome) => {
        outcomes.set(`${contour} ${event}`, outcome);
      },
      ended() {
        for (const source of databases) {
          for (const target of databases) {
            if (source === target) continue;
            for (const { id, operation, table, key } of source.queue.all) {
              const outcome = outcomes.get(`${target.contour} ${source.contour}/${id}`);
              const change = `${source.contour}/${id} ${operation} ${table.name} ${key}`;
              if (outcome === undefined) fail(`${change} never came to ${target.contour}`);
              if (outcome === "parked") fail(`${change} is still parked at ${target.contour}`);
            }
          }
        }
      },
    };
  },
};

export const once: Check = {
  name: "once",
  says: "No message is applied twice at a contour (ledger)",
  observe: (_, fail) => {
    const seen = new Set<string>();
    return {
      applied({ contour, ledger: { source, channel, partition }, batches }) {
        for (const { epoch, sequence } of batches) {
          const name = `${source}/${channel}[${partition}] ${epoch}:${sequence}`;
          if (seen.has(`${contour} ${name}`)) fail(`${name} was applied twice at ${contour}`);
          seen.add(`${contour} ${name}`);
        }
      },
    };
  },
};

export const immutable: Check = {
  name: "immutable",
  says: "A sequence number has one content for ever (I13)",
  observe: (_, fail) => {
    const contents = new Map<string, bigint | number>();
    return {
      stored(channel, { partition, body, headers, id }) {
        const name = `${channelLabel(channel)}[${partition}] ${headers[HEADER.epoch]}:${headers[HEADER.sequence]}`;
        const content = Bun.hash(JSON.stringify([id, headers]), Bun.hash.crc32(body));
        const before = contents.get(name);
        if (before !== undefined && before !== content) fail(`${name} was sent with two contents`);
        contents.set(name, content);
      },
    };
  },
};

export const whole: Check = {
  name: "whole",
  says: "All changes of a source transaction get their outcome in one target transaction (I12)",
  observe: (_, fail) => {
    const commits = new Map<string, object>();
    return {
      applied(applied) {
        if (applied.last.kind !== "frames") return;
        for (const [{ transaction }] of applied.outcomes) {
          const name = `${applied.contour} ${transaction}`;
          const before = commits.get(name);
          if (before && before !== applied)
            fail(`Transaction ${transaction} came to ${applied.contour} in two transactions`);
          commits.set(name, applied);
        }
      },
    };
  },
};

export const acknowledged: Check = {
  name: "acknowledged",
  says: "What is acknowledged to the broker has been committed in the target (I4)",
  observe: ({ profile }, fail) => {
    const applied = new Map<string, number>();
    return {
      applied({ contour, ledger: { source, channel, partition }, last }) {
        applied.set(`${contour} ${source}/${channel}[${partition}]`, last.sequence);
      },
      acknowledged(group, records) {
        for (const { channel, message } of records) {
          // On a shared topic a contour reads past its own messages.
          if (channel.contour === group || !profile.contours.includes(group)) continue;
          const name = `${channelLabel(channel)}[${message.partition}]`;
          const sequence = Number(message.headers[HEADER.sequence]);
          const ledger = applied.get(`${group} ${name}`) ?? 0;
          if (sequence > ledger) fail(`${group} acknowledged ${name}:${sequence}, its ledger stands at ${ledger}`);
        }
      },
    };
  },
};
