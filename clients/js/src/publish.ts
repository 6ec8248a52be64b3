/** Publishing: one `client_msg_id` through all tries, in order for each topic, and what to show meanwhile. */

import type { Env } from "./env.js";
import { HeadgateError } from "./errors.js";
import type { Http } from "./http.js";
import type { Echo, Published, PublishOptions } from "./types.js";

/** The answer to come, with the id that it will have. */
export type Publishing = Promise<Published> & { readonly client_msg_id: string };

export interface PublishBounds {
  /** Milliseconds after which tries end. */
  timeoutMs: number;
  /** Publishes without an answer; one more is refused with `queue_full`. */
  messages: number;
  /** Characters of their payloads' JSON text. */
  bytes: number;
}

/** How many of our own messages are known by their `message_id`. */
const KNOWN_IDS = 1_000;

export class Publisher {
  private readonly last = new Map<string, Promise<unknown>>();
  private readonly ids = new Map<string, string>(); // message_id -> client_msg_id
  private waiting = 0;
  private waitingBytes = 0;
  private closed = false;

  constructor(
    private readonly env: Env,
    private readonly http: Http,
    private readonly bounds: PublishBounds,
    private readonly echo: (echo: Echo) => void,
  ) {}

  /** Starts a publish. Rejects with `queue_full` above the bounds; `echo` is told of every step. */
  publish(topic_id: string, payload: unknown, options: PublishOptions = {}): Publishing {
    const client_msg_id = options.client_msg_id ?? this.env.uuid();
    const { parent_message_id } = options;
    const shown = { topic_id, client_msg_id, payload, ...(parent_message_id && { parent_message_id }) };
    const bytes = (JSON.stringify(payload) ?? "").length;
    if (this.closed || this.waiting >= this.bounds.messages || this.waitingBytes + bytes > this.bounds.bytes) {
      const error = this.closed
        ? new HeadgateError("closed", "the client is closed")
        : new HeadgateError("queue_full", "too many publishes wait for their answer", true);
      return Object.assign(Promise.reject(error), { client_msg_id });
    }
    this.waiting += 1;
    this.waitingBytes += bytes;
    this.echo({ ...shown, state: "pending" });
    const sent = this.inTurn(topic_id, options.ordered !== false, () => this.send(shown, options)).then(
      (answer) => {
        this.remember(answer.message_id, client_msg_id);
        const { message_id, seq, epoch } = answer;
        this.echo({ ...shown, state: "published", message_id, ...(seq && { seq, epoch }) });
        return answer;
      },
      (error) => {
        this.echo({ ...shown, state: "failed", error });
        throw error;
      },
    );
    const done = sent.finally(() => {
      this.waiting -= 1;
      this.waitingBytes -= bytes;
    });
    return Object.assign(done, { client_msg_id });
  }

  /** Returns the `client_msg_id` of a message of ours, where its answer has come. */
  ownId(message_id: string): string | undefined {
    return this.ids.get(message_id);
  }

  /** No further tries: what waits for one is rejected. */
  close(): void {
    this.closed = true;
  }

  private send(
    { topic_id, payload, client_msg_id }: Pick<Echo, "topic_id" | "payload" | "client_msg_id">,
    { wait = "sequenced", timeoutMs = this.bounds.timeoutMs, ordered: _, client_msg_id: __, ...rest }: PublishOptions,
  ): Promise<Published> {
    const path = `/api/v1/topics/${encodeURIComponent(topic_id)}/publish`;
    const body = { ...rest, payload: payload ?? null, client_msg_id };
    const once = () => this.http.call("POST", path, { body, query: { wait } });
    return this.http.retried(once, timeoutMs, () => !this.closed);
  }

  /** Runs it when the publishes before it to the topic have their answers. */
  private inTurn<T>(topic_id: string, ordered: boolean, run: () => Promise<T>): Promise<T> {
    if (!ordered) return run();
    const before = this.last.get(topic_id) ?? Promise.resolve();
    const mine = before.then(run, run);
    const quiet = mine.catch(() => {});
    this.last.set(topic_id, quiet);
    void quiet.then(() => this.last.get(topic_id) === quiet && this.last.delete(topic_id));
    return mine;
  }

  private remember(message_id: string, client_msg_id: string): void {
    this.ids.set(message_id, client_msg_id);
    if (this.ids.size > KNOWN_IDS) this.ids.delete(this.ids.keys().next().value as string);
  }
}
