/** The messages fetched for one read and not yet taken, bounded in bytes (I11). */
import type { KafkaMessage } from "kafkajs";

/** Memory a record costs beside its value: headers and the objects around them. */
const RECORD_OVERHEAD = 3_072;

export class MessageWindow {
  #messages: KafkaMessage[] = [];
  #head = 0;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get empty(): boolean {
    return this.#head >= this.#messages.length;
  }

  add(messages: readonly KafkaMessage[]): void {
    if (this.#head > 0) {
      this.#messages = this.#messages.slice(this.#head);
      this.#head = 0;
    }
    for (const message of messages) {
      this.#messages.push(message);
      this.#bytes += sizeOf(message);
    }
  }

  take(): KafkaMessage | undefined {
    const message = this.#messages[this.#head];
    if (!message) return undefined;
    this.#head++;
    this.#bytes -= sizeOf(message);
    if (this.empty) {
      this.#messages = [];
      this.#head = 0;
    }
    return message;
  }

  clear(): void {
    this.#messages = [];
    this.#head = 0;
    this.#bytes = 0;
  }
}

function sizeOf(message: KafkaMessage): number {
  return RECORD_OVERHEAD + (message.value?.byteLength ?? 0) + (message.key?.byteLength ?? 0);
}
