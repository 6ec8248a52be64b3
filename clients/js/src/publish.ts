/** Publishing: one `client_msg_id` through all tries, in order for each topic, and what to show meanwhile. */

import type { Env } from "./env.js";
import { HeadgateError } from "./errors.js";
import type { Http } from "./http.js";
import type { Echo, Published, PublishOptions } from "./types.js";

/** The answer to come, with the id that it will have. */
export type Publishing = Promise<Published> & { readonly client_msg_id: string };

export interface PublishBounds {
  /** Milliseconds after which tries end. */
  publishTimeoutMs: number;
  /** Publishes without an answer; one more is refused with `queue_full`. */
  publishMessages: number;
  /** Characters of their payloads' JSON text. */
  publishBytes: number;
}

/** How many of our own messages are known by their `message_id`. */
const KNOWN_IDS = 1_000;

export class Publisher {
  private readonly _last = new Map<string, Promise<unknown>>();
  private readonly _ids = new Map<string, string>(); // message_id -> client_msg_id
  private _waiting = 0;
  private _waitingBytes = 0;
  private _closed = false;

  constructor(
    private readonly _env: Env,
    private readonly _http: Http,
    private readonly _bounds: PublishBounds,
    private readonly _echo: (echo: Echo) => void,
  ) {}

  /** Starts a publish. Rejects with `queue_full` above the bounds; `echo` is told of every step. */
  publish(topic_id: string, payload: unknown, options: PublishOptions = {}): Publishing {
    const client_msg_id = options.client_msg_id ?? this._env.uuid();
    const { parent_message_id } = options;
    const shown = { topic_id, client_msg_id, payload, ...(parent_message_id && { parent_message_id }) };
    const bytes = (JSON.stringify(payload) ?? "").length;
    if (this._closed || this._waiting >= this._bounds.publishMessages || this._waitingBytes + bytes > this._bounds.publishBytes) {
      const error = this._closed
        ? new HeadgateError("closed")
        : new HeadgateError("queue_full", "too many publishes", true);
      return Object.assign(Promise.reject(error), { client_msg_id });
    }
    this._waiting += 1;
    this._waitingBytes += bytes;
    this._echo({ ...shown, state: "pending" });
    const sent = this._inTurn(topic_id, options.ordered !== false, () => this._send(shown, options)).then(
      (answer) => {
        this._remember(answer.message_id, client_msg_id);
        const { message_id, seq, epoch } = answer;
        this._echo({ ...shown, state: "published", message_id, ...(seq && { seq, epoch }) });
        return answer;
      },
      (error) => {
        this._echo({ ...shown, state: "failed", error });
        throw error;
      },
    );
    const done = sent.finally(() => {
      this._waiting -= 1;
      this._waitingBytes -= bytes;
    });
    return Object.assign(done, { client_msg_id });
  }

  /** Returns the `client_msg_id` of a message of ours, where its answer has come. */
  ownId(message_id: string): string | undefined {
    return this._ids.get(message_id);
  }

  /** No further tries: what waits for one is rejected. */
  close(): void {
    this._closed = true;
  }

  private _send(
    { topic_id, payload, client_msg_id }: Pick<Echo, "topic_id" | "payload" | "client_msg_id">,
    { wait = "sequenced", timeoutMs = this._bounds.publishTimeoutMs, ordered: _, client_msg_id: __, ...rest }: PublishOptions,
  ): Promise<Published> {
    const path = `/api/v1/topics/${encodeURIComponent(topic_id)}/publish`;
    const body = { ...rest, payload: payload ?? null, client_msg_id };
    const once = () => this._http.call("POST", path, { body, query: { wait } });
    return this._http.retried(once, timeoutMs, () => !this._closed);
  }

  /** Runs it when the publishes before it to the topic have their answers. */
  private _inTurn<T>(topic_id: string, ordered: boolean, run: () => Promise<T>): Promise<T> {
    if (!ordered) return run();
    const before = this._last.get(topic_id) ?? Promise.resolve();
    const mine = before.then(run, run);
    const quiet = mine.catch(() => {});
    this._last.set(topic_id, quiet);
    void quiet.then(() => this._last.get(topic_id) === quiet && this._last.delete(topic_id));
    return mine;
  }

  private _remember(message_id: string, client_msg_id: string): void {
    this._ids.set(message_id, client_msg_id);
    if (this._ids.size > KNOWN_IDS) this._ids.delete(this._ids.keys().next().value as string);
  }
}
