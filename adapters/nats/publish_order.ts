/** Whether confirmed messages stand in the stream in the order they were sent. */
import type { JetStreamManager } from "@nats-io/jetstream";
import type { ReplicatorError } from "../../src/core/errors.ts";
import { HEADER, type Message } from "../../src/core/message.ts";

/** One message on its way; `result` is set when its outcome is known. */
export interface SendJob {
  readonly subject: string;
  readonly message: Message;
  /** What the server removes duplicates by; the message's own id, or that of a resend. */
  id: string;
  result:
    | { readonly ok: true; readonly stream: string; readonly sequence: number; readonly duplicate: boolean }
    | { readonly ok: false; readonly error: ReplicatorError }
    | null;
}

interface Last {
  /** `epoch/sequence` of the message that must come next. */
  readonly successor: string | null;
  readonly sequence: number;
}

type Confirmed = SendJob & { result: { readonly ok: true } };

export class ConfirmedOrder {
  readonly #last = new Map<string, Last>();

  /** Cheap: only duplicates, and a sequence that goes back (one stream holds all of them), can be misplaced. */
  needsLook(jobs: readonly SendJob[]): boolean {
    let before = 0;
    for (const job of jobs) {
      if (!isConfirmed(job)) continue;
      if (job.result.duplicate || job.result.sequence <= before) return true;
      before = job.result.sequence;
    }
    return false;
  }

  /**
   * The confirmed jobs that must be sent again: from the first of a subject that is not stored, or stands in front of
   * its predecessor, to the last of that subject.
   */
  async misplaced(
    jobs: readonly SendJob[],
    absent: (stream: string, sequences: readonly number[]) => Promise<Set<number>>,
  ): Promise<SendJob[]> {
    const again: SendJob[] = [];
    for (const [subject, confirmed] of groupBySubject(jobs)) {
      const duplicates = confirmed.filter((job) => job.result.duplicate);
      const stream = duplicates[0]?.result.stream;
      const gone =
        stream === undefined
          ? new Set<number>()
          : await absent(
              stream,
              duplicates.map((job) => job.result.sequence),
            );
      const first = confirmed[0];
      let before = first?.result.duplicate ? this.#predecessor(subject, first) : 0;
      const bad = confirmed.findIndex((job) => {
        const { sequence, duplicate } = job.result;
        const misplaced = sequence <= before || (duplicate && gone.has(sequence));
        before = sequence;
        return misplaced;
      });
      if (bad >= 0) again.push(...confirmed.slice(bad));
    }
    return again;
  }

  /** Keeps where the last confirmed message of each subject stands, for the first of the next send. */
  remember(jobs: readonly SendJob[]): void {
    for (const [subject, confirmed] of groupBySubject(jobs)) {
      const last = confirmed[confirmed.length - 1];
      if (last) this.#last.set(subject, { successor: numbering(last.message, 1), sequence: last.result.sequence });
    }
  }

  /** Sequence of the message right before this one, if it was sent by us; 0 when unknown. */
  #predecessor(subject: string, job: SendJob): number {
    const last = this.#last.get(subject);
    return last?.successor && last.successor === numbering(job.message, 0) ? last.sequence : 0;
  }
}

function isConfirmed(job: SendJob): job is Confirmed {
  return job.result?.ok === true;
}

function groupBySubject(jobs: readonly SendJob[]): Map<string, Confirmed[]> {
  const groups = new Map<string, Confirmed[]>();
  for (const job of jobs) {
    if (!isConfirmed(job)) continue;
    const group = groups.get(job.subject);
    if (group) group.push(job);
    else groups.set(job.subject, [job]);
  }
  return groups;
}

function numbering(message: Message, ahead: number): string | null {
  const { [HEADER.epoch]: epoch, [HEADER.sequence]: sequence } = message.headers;
  return epoch === undefined || sequence === undefined ? null : `${epoch}/${Number(sequence) + ahead}`;
}

/** Those of the sequences the stream does not hold any more. */
export async function absent(
  manager: JetStreamManager,
  stream: string,
  sequences: readonly number[],
): Promise<Set<number>> {
  const { state } = await manager.streams.info(stream);
  const gone = new Set(sequences.filter((sequence) => sequence < state.first_seq || sequence > state.last_seq));
  // Without holes what lies between first and last is there; a purge by subject leaves holes.
  if ((state.num_deleted ?? 0) === 0) return gone;
  for (const sequence of sequences) {
    if (!gone.has(sequence) && !(await manager.streams.getMessage(stream, { seq: sequence }))) gone.add(sequence);
  }
  return gone;
}
