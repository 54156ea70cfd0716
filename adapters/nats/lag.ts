/** How many messages lie between a position and the tail. */
import type { JetStreamManager, StreamInfo } from "@nats-io/jetstream";
import type { Lag, Position } from "../../src/core/broker.ts";
import { foreignCluster, type Home } from "./home.ts";
import { startSequence } from "./start_sequence.ts";
import { findStream, streamIdentity } from "./stream.ts";

/**
 * Counts the messages of one subject; the stream's own sequence counts every subject of the contour (its control
 * channel never rests) and would show a lag where there is none.
 * @throws the client's errors
 */
export async function subjectLag(
  manager: JetStreamManager,
  { stream, subject, home }: { readonly stream: string; readonly subject: string; readonly home: Home | null },
  position: Position | null,
): Promise<Lag> {
  const info = await findStream(manager, stream, subject);
  if (!info) return { messages: null };
  const total = info.state.subjects?.[subject] ?? 0;
  const start = startSequence(position, streamIdentity(info), info.state);
  if (start <= info.state.first_seq || total === 0) return { messages: total };
  if (start > info.state.last_seq) return { messages: 0 };
  // The server lets our mirror answer a direct get of its origin, and the mirror may stand still.
  const isDirect = info.config.allow_direct && foreignCluster(info, home) === null;
  return {
    messages: isDirect ? await pending(manager, stream, subject, start) : await estimate(manager, info, subject, start),
  };
}

/** One message is read for the number of those behind it, which the server counts. */
async function pending(manager: JetStreamManager, stream: string, subject: string, start: number): Promise<number> {
  const found = await manager.direct.getBatch(stream, { seq: start, next_by_subj: subject, batch: 1 });
  try {
    for await (const message of found) return message.pending + 1;
  } catch (error) {
    if (!isNoResults(error)) throw error;
  }
  return 0;
}

/** Asks the stream's leader: at most what has come since, of any subject. */
async function estimate(manager: JetStreamManager, info: StreamInfo, subject: string, start: number): Promise<number> {
  const query = { seq: start, next_by_subj: subject };
  const next = await manager.streams.getMessage(info.config.name, query);
  return next ? Math.min(info.state.last_seq - next.seq + 1, info.state.subjects?.[subject] ?? 0) : 0;
}

function isNoResults(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === 404;
}
