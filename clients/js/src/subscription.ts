/** One subscription as the application sees it: messages once and in order, gaps in their place, acknowledgements. */

import { Acks } from "./acks.js";
import { Backoff } from "./backoff.js";
import { Cursor, type Missing } from "./cursor.js";
import type { Env } from "./env.js";
import { HeadgateError } from "./errors.js";
import { Queue } from "./queue.js";
import { after, SUBSCRIPTION, type SubscriptionEvent, type SubscriptionState } from "./states.js";
import type { Frame, From, Message, Position, Presence, SubscribeOptions } from "./types.js";

/** What a subscription needs of its client. */
export interface Host {
  readonly env: Env;
  /** The subscription wants to be asked for, now or when the connection is open. */
  ask(subscription: Subscription): void;
  /** Ends it at the server. Nothing of the topic is handed over until the server has answered. */
  leave(topic_id: string): void;
  /** Something may be acknowledged. */
  acksChanged(subscription: Subscription): void;
  /** Sends a frame; returns false when the connection is not open. */
  send(frame: Frame): boolean;
  /** Sends a frame with an id and waits for its answer. */
  request(frame: Frame): Promise<Frame>;
  /** Reads from history, with retries. */
  history(topic_id: string, query: Record<string, number>): Promise<{ messages: Message[]; complete?: boolean }>;
  ownId(message_id: string): string | undefined;
  report(error: unknown): void;
  /** It has ended here. */
  gone(subscription: Subscription): void;
}

/** What waits for the application: a message, or what is missing there; with the epoch it was counted in. */
type Item = { epoch: number | undefined } & ({ message: Message } | { missing: Missing });

const HISTORY_PAGE = 500;
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 30_000;

export class Subscription<Payload = any> implements AsyncIterable<Message<Payload>> {
  state: SubscriptionState = "pending";
  /** The last message that the application was given: keep it to go on from there after a reload. */
  position: Position | undefined;
  /** @internal The `id` of the last subscribe frame. */
  askId: string | undefined;

  private readonly cursor: Cursor;
  private readonly acks: Acks | undefined;
  private readonly queue: Queue<Item>;
  private readonly backoff: Backoff;
  private readonly manual: boolean;
  private readonly first: From;
  private asked: From = "live";
  private epoch: number | undefined;
  private numbered = new WeakSet<Message>(); // messages of the present epoch
  private dropped = 0; // of an ephemeral topic, since the last gap that said so
  private error: Error | undefined;
  private wake: (() => void) | undefined;
  private stream: AsyncGenerator<Message<Payload>> | undefined;
  private cancelRetry = () => {};

  constructor(
    private readonly host: Host,
    readonly topic_id: string,
    private readonly options: SubscribeOptions<Payload> = {},
  ) {
    this.manual = options.ack === "manual";
    this.acks = options.ack ? new Acks(this.manual) : undefined;
    this.first = options.from ?? (options.ack ? "cursor" : "live");
    this.cursor = new Cursor(this.first, !!options.ack);
    this.queue = new Queue(options.queueMessages ?? 1_000, options.queueBytes ?? 8 * 2 ** 20);
    this.backoff = new Backoff(host.env.random, RETRY_FIRST_MS, RETRY_MAX_MS);
    if (options.onMessage) void this.pump(options.onMessage);
  }

  /** @internal Whether it needs the frames `ack` and `nack`. */
  get acked(): boolean {
    return !!this.acks;
  }

  /** The messages, one consumer only. Leaving the loop closes the subscription; its end by the server is thrown. */
  [Symbol.asyncIterator](): AsyncGenerator<Message<Payload>> {
    if (this.stream || this.options.onMessage) throw new Error("a subscription has one consumer");
    return (this.stream = this.consume());
  }

  /** Acknowledges this message and by the protocol every one before it (`ack: "manual"`). */
  ack(message: Message): void {
    if (message.seq === undefined || !this.acks || !this.numbered.has(message)) return;
    this.acks.finish(message.seq);
    this.host.acksChanged(this);
  }

  /** Says that it was not handled. It comes again with a higher `attempt`. */
  nack(message: Message, reason = ""): void {
    if (message.seq === undefined || !this.acks || !this.numbered.has(message)) return;
    if (!this.acks.nack(message.seq) || this.state !== "live") return;
    const { topic_id } = this;
    this.host.send({ type: "nack", topic_id, seq: message.seq, ...(reason && { reason: reason.slice(0, 200) }) });
  }

  /** Acknowledges what is due and waits until the cursor is in the server's log. */
  async flush(): Promise<void> {
    const seq = this.acks?.due();
    if (!seq) return;
    await this.host.request({ type: "ack", topic_id: this.topic_id, seq });
    this.acks?.told(seq);
  }

  /** Sets the device's read cursor; done when it is in the server's log. */
  async read(seq: number): Promise<void> {
    await this.host.request({ type: "read", topic_id: this.topic_id, seq });
  }

  /** Tells the other users that this one is typing. At most once a second is passed on; nothing waits for it. */
  typing(): void {
    if (this.state === "live") this.host.send({ type: "typing", topic_id: this.topic_id });
  }

  /** Asks who follows the topic. */
  async presence(): Promise<Presence> {
    return (await this.host.request({ type: "presence", topic_id: this.topic_id })) as unknown as Presence;
  }

  /** Ends it. Messages that wait here are dropped. */
  close(): void {
    this.queue.clear();
    this.end();
  }

  // What follows is for the client that owns it.

  /** @internal Returns the frame that asks for it. */
  asking(id: string): Frame {
    this.move("ask");
    this.cancelRetry();
    this.acks?.newSession();
    this.askId = id;
    this.asked = this.cursor.ask(this.acks?.acknowledged);
    const { presence } = this.options;
    return {
      type: "subscribe",
      id,
      topic_id: this.topic_id,
      from: this.asked,
      ...(this.acks && { ack: true }),
      ...(presence !== undefined && { presence }),
    };
  }

  /** @internal Applies a frame of its topic; `bytes` is the length of its text. */
  onFrame(frame: Frame, bytes: number): void {
    if (frame.type === "subscribed" && this.state === "asked") this.granted(frame);
    else if (frame.type === "unsubscribed") this.unsubscribed(String(frame.reason));
    else if (this.state !== "live") return;
    else if (frame.type === "message") this.message(frame, bytes);
    else if (frame.type === "gap") this.gap(frame);
    else if (frame.type === "caught_up") this.caughtUp(frame);
    else if (frame.type === "typing") this.call(this.options.onTyping, String(frame.user_id));
    else this.call(this.options.onPresence, frame as unknown as Presence);
  }

  /** @internal The server refused the subscribe frame, or a stream of its own was lost. */
  refused(error: HeadgateError): void {
    if (this.state === "ended") return;
    if (!error.retryable) return this.end(error);
    this.move("lost");
    this.host.report(error);
    this.cancelRetry();
    this.cancelRetry = this.host.env.after(this.backoff.next(error.retry_after_ms), () => this.host.ask(this));
  }

  /** @internal The connection is gone: it is asked for again when there is another. */
  lost(): void {
    this.cancelRetry();
    this.move("lost");
  }

  /** @internal Returns the `ack` to send, or null. */
  ackDue(): { seq: number; untold: number } | null {
    const seq = this.state === "live" ? this.acks?.due() : null;
    return seq ? { seq, untold: this.acks?.untold ?? 0 } : null;
  }

  /** @internal The `ack` was sent. */
  ackTold(seq: number): void {
    this.acks?.told(seq);
  }

  /** @internal Ends it, with an error unless the application wanted it. */
  end(error?: Error): void {
    if (this.state === "ended") return;
    if (error || this.state === "pending" || this.state === "paused") this.move("end");
    else this.depart("end");
    this.error = error;
    this.cancelRetry();
    this.host.gone(this);
    this.wake?.();
    this.call(this.options.onEnd, error);
  }

  private move(event: SubscriptionEvent): void {
    this.state = after(SUBSCRIPTION, this.state, event);
  }

  /** Says what was handled, and leaves. */
  private depart(event: SubscriptionEvent): void {
    const due = this.ackDue();
    if (due) this.host.send({ type: "ack", topic_id: this.topic_id, seq: due.seq });
    this.move(event);
    this.host.leave(this.topic_id);
  }

  private granted(frame: Frame): void {
    this.move("granted");
    this.backoff.reset();
    const missing = this.cursor.granted(frame, this.asked);
    const epoch = frame.profile === "ephemeral" ? undefined : (frame.epoch as number | undefined);
    if (this.epoch !== undefined && this.epoch !== epoch) {
      this.acks?.reset();
      this.numbered = new WeakSet();
    }
    this.epoch = epoch;
    if (missing) this.put({ missing, epoch }, 0);
    this.call(this.options.onSubscribed, frame);
  }

  private unsubscribed(reason: string): void {
    if (reason !== "requested") this.end(new HeadgateError(reason, `the server ended the subscription`));
  }

  private message(frame: Frame, bytes: number): void {
    const { type: _, ...members } = frame;
    const message = members as unknown as Message;
    const { seq } = message;
    const { epoch } = this;
    const verdict = this.cursor.judge(seq);
    if (verdict === "repeat" && !this.acks?.passes(seq!, message.attempt)) {
      this.cursor.take(seq);
      if (this.acks) this.host.acksChanged(this); // the server does not know that it was handled
      return;
    }
    if (typeof verdict === "object" && !this.put({ missing: verdict, epoch }, 0)) return;
    if (!this.put({ message, epoch }, bytes)) return;
    this.cursor.take(seq);
    if (seq === undefined || !this.acks) return;
    this.acks.queued(seq);
    this.numbered.add(message);
  }

  private gap(frame: Frame): void {
    const missing = this.cursor.gap(frame);
    if (missing && this.put({ missing, epoch: this.epoch }, 0) && missing.to_seq !== null) this.cursor.take(missing.to_seq);
  }

  private caughtUp(frame: Frame): void {
    this.cursor.caughtUp(frame.seq);
    if (typeof frame.seq === "number") this.acks?.caughtUp(frame.seq);
    this.call(this.options.onCaughtUp, { seq: (frame.seq as number | undefined) ?? null });
  }

  /** Queues it, or does what a full queue asks for and returns false. */
  private put(item: Item, bytes: number): boolean {
    if (this.dropped && this.queue.push(droppedHere(this.dropped), 0)) this.dropped = 0;
    if (!this.dropped && this.queue.push(item, bytes)) {
      this.wake?.();
      return true;
    }
    if (this.epoch === undefined) this.dropped += 1; // ephemeral: it will not come again
    else if (this.state === "live") {
      this.depart("full");
    }
    return false;
  }

  /** Returns the next item, or undefined when it has ended and nothing is left. */
  private async take(): Promise<Item | undefined> {
    for (;;) {
      const item = this.queue.shift();
      if (this.state === "paused" && this.queue.drained) {
        this.move("drained");
        this.host.ask(this);
      }
      if (item || this.state === "ended") return item;
      if (this.dropped) {
        const count = this.dropped;
        this.dropped = 0;
        return droppedHere(count);
      }
      await new Promise<void>((resolve) => (this.wake = resolve));
      this.wake = undefined;
    }
  }

  private async *consume(): AsyncGenerator<Message<Payload>> {
    try {
      for (;;) {
        const item = await this.take();
        if (!item) break;
        if ("missing" in item) {
          yield* this.filling(item.missing);
          this.handed(item.epoch, item.missing.to_seq);
          continue;
        }
        const { message } = item;
        this.handed(item.epoch, message.seq);
        const client_msg_id = this.host.ownId(message.message_id);
        if (client_msg_id) message.client_msg_id = client_msg_id;
        yield message;
        this.finished(message);
      }
    } finally {
      this.close();
    }
    if (this.error) throw this.error;
  }

  private handed(epoch: number | undefined, seq: number | null | undefined): void {
    if (epoch === undefined || seq === null || seq === undefined) return;
    if (epoch === this.epoch) this.acks?.handed(seq);
    this.position = { epoch, seq };
  }

  private finished(message: Message): void {
    if (!this.manual && this.acks && message.seq !== undefined && !this.acks.isFailed(message.seq)) this.ack(message);
  }

  private async pump(onMessage: (message: Message<Payload>) => unknown): Promise<void> {
    await null; // nothing is called before the caller has the subscription
    try {
      for await (const message of this.consume()) {
        try {
          await onMessage(message);
        } catch (error) {
          this.nack(message, String(error));
          this.host.report(error);
        }
      }
    } catch {
      // the end was told by onEnd
    }
  }

  /** Tells of a gap and hands over what the application wants in its place. */
  private async *filling(missing: Missing): AsyncGenerator<Message<Payload>> {
    const { topic_id } = this;
    try {
      const instead = await this.options.onGap?.({ ...missing, topic_id, refetch: () => this.refetch(missing) });
      if (instead) yield* instead;
    } catch (error) {
      this.host.report(error);
    }
  }

  private async *refetch({ from_seq, to_seq }: Missing): AsyncGenerator<Message<Payload>> {
    if (from_seq === null || to_seq === null) return;
    for (let after_seq = from_seq - 1; after_seq < to_seq; ) {
      const limit = Math.min(HISTORY_PAGE, to_seq - after_seq);
      const { messages } = await this.host.history(this.topic_id, { after_seq, limit });
      for (const message of messages) if (message.seq! <= to_seq) yield message;
      const newest = messages.at(-1)?.seq;
      if (newest === undefined) return;
      after_seq = newest;
    }
  }

  private call<T>(callback: ((value: T) => void) | undefined, value: T): void {
    try {
      callback?.(value);
    } catch (error) {
      this.host.report(error);
    }
  }
}

function droppedHere(count: number): Item {
  const missing = { from_seq: null, to_seq: null, count, reason: "client_queue", recoverable: false };
  return { missing, epoch: undefined };
}
