/** One subscription as the application sees it: messages once and in order, gaps in their place, acknowledgements. */

import { Acks } from "./acks.js";
import { Backoff } from "./backoff.js";
import type { Connection } from "./connection.js";
import { Cursor, newMissing, type Missing } from "./cursor.js";
import type { Env } from "./env.js";
import { HeadgateError } from "./errors.js";
import type { Publisher } from "./publish.js";
import { Queue } from "./queue.js";
import { after, SUBSCRIPTION, type SubscriptionEvent, type SubscriptionState } from "./states.js";
import type { Frame, From, Message, Position, Presence, SubscribeOptions } from "./types.js";

/** What a subscription needs of its client. */
export interface Host {
  readonly env: Env;
  readonly device_id: string | undefined;
  /** The subscription wants to be asked for, now or when the connection is open. */
  ask(subscription: Subscription): void;
  /** Ends it at the server. Nothing of the topic is handed over until the server has answered. */
  leave(topic_id: string): void;
  /** Something may be acknowledged. */
  acksChanged(subscription: Subscription): void;
  /** Sends frames, with an answer or without. */
  readonly connection: Pick<Connection, "send" | "request">;
  /** Reads a page of history, with retries until it is complete. */
  history(topic_id: string, query: Record<string, number>): Promise<{ messages: Message[] }>;
  readonly publisher: Pick<Publisher, "ownId">;
  report(error: unknown): void;
  /** It has ended here. */
  gone(subscription: Subscription): void;
}

/** What waits for the application: a message, or what is missing there; with the epoch it was counted in. */
type Item = { epoch: number | undefined; message?: Message; missing?: Missing };

const HISTORY_PAGE = 500;
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 30_000;

export class Subscription<Payload = any> implements AsyncIterable<Message<Payload>> {
  state: SubscriptionState = "pending";
  /** The last message that the application was given: keep it to go on from there after a reload. */
  position: Position | undefined;
  /** @internal The `id` of the last subscribe frame. */
  askId: string | undefined;

  private readonly _cursor: Cursor;
  private readonly _acks: Acks | undefined;
  private readonly _queue: Queue<Item>;
  private readonly _backoff: Backoff;
  private readonly _manual: boolean;
  private _asked: From = "live";
  private _epoch: number | undefined;
  private _numbered = new WeakSet<Message>(); // messages of the present epoch that may be acknowledged
  private _dropped = 0; // of an ephemeral topic, since the last gap that said so
  private _error: Error | undefined;
  private _wake: (() => void) | undefined;
  private _stream: AsyncGenerator<Message<Payload>> | undefined;
  private _cancelRetry = () => {};

  constructor(
    private readonly _host: Host,
    readonly topic_id: string,
    private readonly _options: SubscribeOptions<Payload> = {},
  ) {
    this._manual = _options.ack === "manual";
    this._acks = _options.ack ? new Acks(this._manual) : undefined;
    this._cursor = new Cursor(_options.from ?? (_options.ack ? "cursor" : "live"), this.acked);
    this._queue = new Queue(_options.queueMessages ?? 1_000, _options.queueBytes ?? 8 * 2 ** 20);
    this._backoff = new Backoff(_host.env.random, RETRY_FIRST_MS, RETRY_MAX_MS);
    if (_options.onMessage) void this._pump(_options.onMessage);
  }

  /** @internal Whether it needs the frames `ack` and `nack`. */
  get acked(): boolean {
    return !!this._acks;
  }

  /** The messages, one consumer only. Leaving the loop closes the subscription; its end by the server is thrown. */
  [Symbol.asyncIterator](): AsyncGenerator<Message<Payload>> {
    if (this._stream || this._options.onMessage) throw new Error("a subscription has one consumer");
    return (this._stream = this._consume());
  }

  /** Acknowledges this message and by the protocol every one before it (`ack: "manual"`). */
  ack(message: Message): void {
    if (!this._numbered.has(message)) return;
    this._acks!.finish(message.seq!);
    this._host.acksChanged(this);
  }

  /** Says that it was not handled. It comes again with a higher `attempt`. */
  nack(message: Message, reason = ""): void {
    const { topic_id, _acks: acks } = this;
    const seq = message.seq!;
    if (!this._numbered.has(message) || !acks!.nack(seq) || this.state !== "live") return;
    this._host.connection.request({ type: "nack", topic_id, seq, reason: reason.slice(0, 200) || undefined }).then(
      () => acks!.heard(seq),
      () => {}, // the next session begins below it
    );
  }

  /** Acknowledges what is due and waits until the cursor is in the server's log. */
  async flush(): Promise<void> {
    for (let seq = this._acks?.nextAck(); seq; seq = this._acks?.nextAck()) {
      await this._host.connection.request({ type: "ack", topic_id: this.topic_id, seq });
      this._acks?.told(seq);
    }
  }

  /** Says that the user has read the topic up to `seq`, on all of his devices; done when it is in the server's log. */
  async markRead(seq: number): Promise<void> {
    await this._host.connection.request({ type: "read", topic_id: this.topic_id, seq });
  }

  /** Tells the other users that this one is typing. At most once a second is passed on; nothing waits for it. */
  typing(): void {
    if (this.state === "live") this._host.connection.send({ type: "typing", topic_id: this.topic_id });
  }

  /** Asks who follows the topic. */
  async presence(): Promise<Presence> {
    return (await this._host.connection.request({ type: "presence", topic_id: this.topic_id })) as unknown as Presence;
  }

  /** Ends it. Messages that wait here are dropped. */
  close(): void {
    this._queue.clear();
    this.end();
  }

  // What follows is for the client that owns it.

  /** @internal Returns the frame that asks for it. */
  asking(id: string): Frame {
    this._move("ask");
    this._cancelRetry();
    this._acks?.newSession();
    this.askId = id;
    this._asked = this._cursor.ask(this._acks?.acknowledged);
    return {
      type: "subscribe",
      id,
      topic_id: this.topic_id,
      from: this._asked,
      device_id: this._host.device_id,
      ack: this.acked || undefined,
      presence: this._options.presence,
    };
  }

  /** @internal Applies a frame of its topic; `bytes` is the length of its text. */
  onFrame(frame: Frame, bytes: number): void {
    if (frame.type === "subscribed" && this.state === "asked") this._granted(frame);
    else if (frame.type === "unsubscribed") this._unsubscribed(String(frame.reason));
    else if (this.state !== "live") return;
    else if (frame.type === "message") this._message(frame, bytes);
    else if (frame.type === "gap") this._gap(frame);
    else if (frame.type === "caught_up") this._caughtUp(frame);
    else if (frame.type === "typing") this._call(this._options.onTyping, String(frame.user_id));
    else this._call(this._options.onPresence, frame as unknown as Presence);
  }

  /** @internal The server refused the subscribe frame, or a stream of its own was lost. */
  askRefused(error: HeadgateError): void {
    if (this.state === "ended") return;
    if (!error.retryable) return this.end(error);
    this._move("lost");
    this._host.report(error);
    this._cancelRetry();
    this._cancelRetry = this._host.env.after(this._backoff.next(error.retry_after_ms), () => this._host.ask(this));
  }

  /** @internal The connection is gone: it is asked for again when there is another. */
  lost(): void {
    this._cancelRetry();
    this._move("lost");
  }

  /** @internal Returns the `ack` to send, or null. */
  ackDue(): { seq: number; untold: number } | null {
    const seq = this.state === "live" ? this._acks?.nextAck() : null;
    return seq ? { seq, untold: this._acks?.untold ?? 0 } : null;
  }

  /** @internal Gives `send` each `ack` that is due, until it does not take one; returns whether it took all. */
  sendAcks(send: (frame: Frame) => boolean): boolean {
    for (let due; (due = this.ackDue()); this._acks!.told(due.seq)) {
      if (!send({ type: "ack", topic_id: this.topic_id, seq: due.seq })) return false;
    }
    return true;
  }

  /** @internal Ends it, with an error unless the application wanted it. */
  end(error?: Error): void {
    if (this.state === "ended") return;
    if (error || this.state === "pending" || this.state === "paused") this._move("end");
    else this._depart("end");
    this._error = error;
    this._cancelRetry();
    this._host.gone(this);
    this._wake?.();
    this._call(this._options.onEnd, error);
  }

  private _move(event: SubscriptionEvent): void {
    this.state = after(SUBSCRIPTION, this.state, event);
  }

  /** Says what was handled, and leaves. */
  private _depart(event: SubscriptionEvent): void {
    this.sendAcks((frame) => this._host.connection.send(frame));
    this._move(event);
    this._host.leave(this.topic_id);
  }

  private _granted(frame: Frame): void {
    this._move("granted");
    this._backoff.reset();
    const missing = this._cursor.answered(frame, this._asked);
    const epoch = frame.profile === "ephemeral" ? undefined : (frame.epoch as number | undefined);
    this._epoch = epoch;
    if (missing) {
      this._acks?.reset();
      this._numbered = new WeakSet();
      this._put({ missing, epoch }, 0);
    }
    this._call(this._options.onSubscribed, frame);
  }

  private _unsubscribed(reason: string): void {
    if (reason !== "requested") this.end(new HeadgateError(reason, "ended by the server"));
  }

  private _message(frame: Frame, bytes: number): void {
    const { type: _, ...members } = frame;
    const message = members as unknown as Message;
    const { seq } = message;
    const { _epoch: epoch } = this;
    const replay = !!this._acks && message.attempt === 1; // a dead letter anew, with its old seq
    const verdict = replay ? "repeat" : this._cursor.judge(seq);
    if (verdict === "repeat" && !this._acks?.passes(seq!, message.attempt)) {
      if (!replay) this._cursor.take(seq);
      if (this._acks) this._host.acksChanged(this); // the server does not know that it was handled
      return;
    }
    if (typeof verdict === "object") {
      this._put({ missing: verdict, epoch }, 0);
      this._cursor.take(verdict.to_seq!);
    }
    if (!this._put({ message, epoch }, bytes)) return;
    if (!replay) this._cursor.take(seq);
    if (seq === undefined || !this._acks) return;
    this._acks.queued(seq, message.attempt);
    this._numbered.add(message);
  }

  private _gap(frame: Frame): void {
    const missing = this._cursor.gap(frame);
    if (!missing) return;
    this._put({ missing, epoch: this._epoch }, 0);
    this._cursor.take(missing.to_seq ?? undefined);
  }

  private _caughtUp(frame: Frame): void {
    this._cursor.caughtUp();
    if (typeof frame.seq === "number") this._acks?.caughtUp(frame.seq);
    this._call(this._options.onCaughtUp, { seq: (frame.seq as number | undefined) ?? null });
  }

  /** Queues it, or does what a full queue asks for and returns false. */
  private _put(item: Item, bytes: number): boolean {
    if (this._dropped && this._queue.push(droppedHere(this._dropped), 0)) this._dropped = 0;
    const mustPass = !!item.missing && this._epoch !== undefined; // a gap is not told again; messages behind it do not pass
    if (!this._dropped && this._queue.push(item, bytes, mustPass)) {
      this._wake?.();
      return true;
    }
    if (this._epoch === undefined) this._dropped += 1; // ephemeral: it will not come again
    else if (this.state === "live") {
      this._depart("full");
    }
    return false;
  }

  /** Returns the next item, or undefined when it has ended and nothing is left. */
  private async _take(): Promise<Item | undefined> {
    for (;;) {
      const item = this._queue.shift();
      if (this.state === "paused" && this._queue.isHalfFree) {
        this._move("drained");
        this._host.ask(this);
      }
      if (item || this.state === "ended") return item;
      if (this._dropped) {
        const count = this._dropped;
        this._dropped = 0;
        return droppedHere(count);
      }
      await new Promise<void>((resolve) => (this._wake = resolve));
      this._wake = undefined;
    }
  }

  private async *_consume(): AsyncGenerator<Message<Payload>> {
    try {
      for (;;) {
        const item = await this._take();
        if (!item) break;
        if (item.missing) {
          yield* this._filling(item.missing);
          this._handed(item.epoch, item.missing.to_seq);
          continue;
        }
        const message = item.message!;
        this._handed(item.epoch, message.seq);
        const client_msg_id = this._host.publisher.ownId(message.message_id);
        if (client_msg_id) message.client_msg_id = client_msg_id;
        yield message;
        this._finished(message);
      }
    } finally {
      this.close();
    }
    if (this._error) throw this._error;
  }

  private _handed(epoch: number | undefined, seq: number | null | undefined): void {
    if (epoch === undefined || seq == null) return;
    if (epoch === this._epoch) this._acks?.handed(seq);
    if (this.position?.epoch !== epoch || this.position.seq < seq) this.position = { epoch, seq };
  }

  private _finished(message: Message): void {
    if (!this._manual && !this._acks?.isRefused(message.seq!)) this.ack(message);
  }

  private async _pump(onMessage: (message: Message<Payload>) => unknown): Promise<void> {
    await null; // nothing is called before the caller has the subscription
    try {
      for await (const message of this._consume()) {
        try {
          await onMessage(message);
        } catch (error) {
          this.nack(message, String(error));
          this._host.report(error);
        }
      }
    } catch (error) {
      if (!this._options.onEnd) this._host.report(error);
    }
  }

  /** Tells of a gap and hands over what the application wants in its place. */
  private async *_filling(missing: Missing): AsyncGenerator<Message<Payload>> {
    const { topic_id } = this;
    try {
      const instead = await this._options.onGap?.({ ...missing, topic_id, refetch: () => this._refetch(missing) });
      if (instead) yield* instead;
    } catch (error) {
      this._host.report(error);
    }
  }

  private async *_refetch({ from_seq, to_seq }: Missing): AsyncGenerator<Message<Payload>> {
    if (from_seq === null || to_seq === null) return;
    for (let next = from_seq; next <= to_seq; ) {
      const limit = Math.min(HISTORY_PAGE, to_seq - next + 1);
      const { messages } = await this._host.history(this.topic_id, { after_seq: next - 1, limit });
      if (!messages.length) throw gone(next, to_seq);
      for (const message of messages) {
        const seq = Math.min(message.seq!, to_seq + 1);
        if (seq > next) this._host.report(gone(next, seq - 1));
        next = seq + 1;
        if (seq <= to_seq) yield message;
      }
    }
  }

  private _call<T>(callback: ((value: T) => void) | undefined, value: T): void {
    try {
      callback?.(value);
    } catch (error) {
      this._host.report(error);
    }
  }
}

function gone(from_seq: number, to_seq: number): HeadgateError {
  return new HeadgateError("gone", `history has no messages ${from_seq} to ${to_seq}`);
}

function droppedHere(count: number): Item {
  return { missing: newMissing("client_queue", null, null, false, count), epoch: undefined };
}
